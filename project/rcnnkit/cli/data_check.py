"""`rcnnkit data check`: every problem of a data set, where it is and what to do.

Exit status: 0 clean, 1 problems, 2 nothing that can be read.
"""

import argparse
import json
from pathlib import Path

from rcnnkit.data.checks import check, report
from rcnnkit.data.checks.repaired_files import write_repaired
from rcnnkit.data.formats import READERS
from rcnnkit.files import write_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a folder or an annotation file, with or without @SPLIT")
    parser.add_argument("--format", default="auto", choices=["auto", *READERS], help="default: by the look of it")
    parser.add_argument("--images", metavar="DIR", help="folder of the images, where it is not below PATH")
    parser.add_argument("--split", help="only this part (default: all, and what they have in common)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all problems and statistics")
    parser.add_argument(
        "--fix", metavar="OUT", type=Path, help="write repaired COCO JSON and a list of the changes to this folder"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the problems; write what is asked for. The input is never modified."""
    checked = check(arguments.path, data_format=arguments.format, images=arguments.images, split=arguments.split)
    print(report.as_text(checked))
    content = report.as_json(checked)
    if arguments.fix is not None:
        repaired = write_repaired(checked, arguments.fix)
        content["changes"] = repaired.changes
        print(repaired.describe())
    if arguments.json is not None:
        write_bytes(arguments.json, json.dumps(content, indent=1).encode())
    return 1 if checked.problems else 0
