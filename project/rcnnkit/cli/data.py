"""`rcnnkit data`: what is done with a folder of labelled images; each command is a file as in `rcnnkit.cli.main`."""

import argparse
import importlib

# name → (module, one line of help); a module is imported only when its command runs.
COMMANDS = {
    "check": (
        "rcnnkit.cli.data_check",
        "every problem of a data set: where it is and what to do; safe repairs",
    ),
    "info": ("rcnnkit.cli.data_info", "format, splits, classes and counts of a data set"),
    "show": ("rcnnkit.cli.data_show", "draw a contact sheet of annotated images"),
    "convert": ("rcnnkit.cli.data_convert", "write a data set of any format as COCO or YOLO"),
    "split": ("rcnnkit.cli.data_split", "divide a data set into train, val and test"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    width = max(map(len, COMMANDS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "commands:\n" + "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())
    parser.add_argument("data_command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="its arguments (COMMAND --help)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command with a parser of its own."""
    module_name, summary = COMMANDS[arguments.data_command]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(prog=f"rcnnkit data {arguments.data_command}", description=summary)
    module.add_arguments(parser)
    return module.run(parser.parse_intermixed_args(arguments.rest))
