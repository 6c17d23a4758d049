"""The console command `rcnnkit`: a sub-command is a file with `add_arguments(parser)` and `run(arguments) -> int`."""

import argparse
import importlib
import os
import sys

from rcnnkit.errors import UserError

# name → (module, one line of help); a module is imported only when its sub-command runs.
COMMANDS = {
    "info": ("rcnnkit.cli.info", "engine, versions, devices, and what to do about problems"),
    "data": ("rcnnkit.cli.data", "check, count, show, convert and split a folder of labelled images"),
    "compat": (
        "rcnnkit.cli.compat",
        "which names of Detectron2 a project uses, and whether the built-in engine has them",
    ),
    "quickstart": ("rcnnkit.cli.quickstart", "train and evaluate a small Mask R-CNN on the embedded data set"),
}

PIPE_CLOSED = 128 + 13  # what a shell says of a program that ended by SIGPIPE


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command; a `UserError` becomes one line on stderr and exit status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="rcnnkit", description="Fine-tune Faster, Mask and Keypoint R-CNN.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = {}
    for name, (module, summary) in COMMANDS.items():
        sub_parser = commands.add_parser(name, help=summary, description=summary)
        if name in arguments[:1]:
            try:
                modules[name] = importlib.import_module(module)
            except UserError as error:
                print(f"rcnnkit: {error}", file=sys.stderr)
                return 2
            modules[name].add_arguments(sub_parser)
    parsed = parser.parse_args(arguments)
    try:
        status = modules[parsed.command].run(parsed)
        sys.stdout.flush()
    except UserError as error:
        print(f"rcnnkit: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the exit can flush what is left
        return PIPE_CLOSED
    return status


if __name__ == "__main__":
    sys.exit(main())
