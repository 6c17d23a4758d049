"""The arguments that name a data set, and the remarks of its reader: the same in every command of `rcnnkit data`."""

import argparse
import sys
from collections.abc import Iterable

from rcnnkit.data.checks import report
from rcnnkit.data.formats import READERS
from rcnnkit.data.labelled import Problem
from rcnnkit.data.parts import Parts, read_parts

_SHOWN = 3  # of each kind of remark


def add_source(parser: argparse.ArgumentParser) -> None:
    """PATH, --format, --images and --split."""
    parser.add_argument("path", metavar="PATH", help="a folder or an annotation file, with or without @SPLIT")
    parser.add_argument("--format", default="auto", choices=["auto", *READERS], help="default: by the look of it")
    parser.add_argument("--images", metavar="DIR", help="folder of the images, where it is not below PATH")
    parser.add_argument("--split", help="only this part (default: all)")


def read_source(arguments: argparse.Namespace) -> Parts:
    """What the arguments name."""
    return read_parts(arguments.path, data_format=arguments.format, images=arguments.images, split=arguments.split)


def tell(problems: Iterable[Problem], title: str) -> None:
    """Print problems to stderr by kind, the first of each."""
    groups = report.by_kind(list(problems))
    if groups:
        print(title, file=sys.stderr)
    for kind, found in groups.items():
        print(f"  {kind}: {len(found)}", file=sys.stderr)
        for problem in found[:_SHOWN]:
            print(f"    {report.line(problem)}", file=sys.stderr)
        if len(found) > _SHOWN:
            print(f"    ... and {len(found) - _SHOWN} more", file=sys.stderr)
