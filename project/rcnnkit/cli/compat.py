"""`rcnnkit compat PATH`: will a Detectron2 project run on the built-in engine? Reads it, never runs it."""

import argparse
from pathlib import Path

from rcnnkit.compatibility import OUT_OF_SCOPE, SUPPORTED, UNKNOWN, Use, nearest_known, status_of, uses_in_project


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The project, and whether to list what is fine, too."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a project's folder, or one Python file")
    parser.add_argument("--quiet", action="store_true", help="leave out the names that are supported")


def run(arguments: argparse.Namespace) -> int:
    """Print the names by status; 0 when all are supported, 1 otherwise (2: the sources cannot be read)."""
    uses: dict[str, list[Use]] = {}
    for use in uses_in_project(arguments.path):
        uses.setdefault(use.name, []).append(use)
    by_status: dict[str, list[str]] = {SUPPORTED: [], OUT_OF_SCOPE: [], UNKNOWN: []}
    for name in sorted(uses):
        by_status[status_of(name)].append(name)
    for status, names in by_status.items():
        if names and not (status == SUPPORTED and arguments.quiet):
            print(f"{status}:")
            for name in names:
                print(f"  {name}{_hint(name) if status == UNKNOWN else ''}")
                print("".join(f"    {use.file}:{use.line}\n" for use in uses[name]), end="")
    counts = ", ".join(f"{len(names)} {status}" for status, names in by_status.items())
    print(f"{len(uses)} names of Detectron2: {counts}")
    if by_status[OUT_OF_SCOPE]:
        print("What is out of scope runs on stock Detectron2: install it and set RCNNKIT_ENGINE=detectron2.")
    return 0 if len(by_status[SUPPORTED]) == len(uses) else 1


def _hint(name: str) -> str:
    meant = nearest_known(name)
    return f"  (nearest: {meant})" if meant else ""
