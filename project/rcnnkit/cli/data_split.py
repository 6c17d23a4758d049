"""`rcnnkit data split`: divide a data set into parts, each a COCO JSON file."""

import argparse
import csv
import re
from pathlib import Path

from rcnnkit.cli.data_convert import add_pictures, write_parts
from rcnnkit.cli.data_source import add_source, read_source, tell
from rcnnkit.data.division import divide
from rcnnkit.data.labelled import LabelledData, ProblemLog
from rcnnkit.data.parts import Parts
from rcnnkit.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder; nothing is overwritten")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.8, 0.2], help="default: 0.8 0.2")
    parser.add_argument("--names", nargs="+", default=["train", "val"], help="of the parts; default: train val")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parser.add_argument(
        "--group-by",
        metavar="REGEX|FILE",
        help="images of one group come into one part: what the expression (its first group, if it has one) finds in "
        "the path of the image below the data set's folder; or a CSV file of two columns, path and group",
    )
    parser.add_argument("--stratify", action="store_true", help="share out every class by the fractions")
    add_pictures(parser, "leave")


def run(arguments: argparse.Namespace) -> int:
    """Write one file for each part."""
    if len(arguments.names) != len(arguments.fractions) or len(set(arguments.names)) < len(arguments.names):
        given = f"--names {' '.join(arguments.names)}, --fractions {' '.join(map(str, arguments.fractions))}"
        raise UserError(f"{given}: name every part once, and give each a fraction")
    found = read_source(arguments)
    tell(found.problems, "what could not be read, and is in no part:")
    parts = found.distinct()
    if len(parts) > 1:
        names = ", ".join(map(str, parts))
        raise UserError(f"{arguments.path}: is divided into {names} already; name the part to divide with --split")
    data = next(iter(parts.values()))
    data.records = sorted(data.records, key=lambda record: record["file_name"])
    groups = None if arguments.group_by is None else _groups(arguments.group_by, found, data)
    labels = [frozenset(annotation["category_id"] for annotation in record["annotations"]) for record in data.records]
    divided = divide(labels, arguments.fractions, arguments.seed, groups=groups, stratify=arguments.stratify)
    written = {
        name: LabelledData(
            data.format,
            data.classes,
            [data.records[index] for index in indices],
            data.files,
            data.skeletons,
            data.category_ids,
        )
        for name, indices in zip(arguments.names, divided, strict=True)
    }
    problems = ProblemLog()
    print(write_parts(found, dict(written), arguments.out, arguments.pictures, problems))
    tell(problems, "what COCO cannot hold, and is not written:")
    _print_classes(written)
    return 0


def _groups(source: str, found: Parts, data: LabelledData) -> list[str]:
    names = [_below(record["file_name"], found) for record in data.records]
    if Path(source).is_file():
        with open(source, newline="", encoding="utf-8-sig") as file:
            table = {row[0]: row[1] for row in csv.reader(file) if len(row) >= 2}
        for name in names:
            if name not in table and Path(name).name not in table:
                raise UserError(f"--group-by {source}: has no line for {name}; add it")
        return [table.get(name, table.get(Path(name).name, "")) for name in names]
    try:
        expression = re.compile(source)
    except re.error as error:
        raise UserError(f"--group-by {source}: is neither a file nor a regular expression ({error})") from error
    groups = []
    for name in names:
        match = expression.search(name)
        if match is None:
            raise UserError(f"--group-by {source}: finds nothing in the path {name}; correct the expression")
        groups.append(str(match.group(1 if expression.groups else 0)))
    return groups


def _below(file: str, found: Parts) -> str:
    for root in (found.tree.images_root, found.tree.root):
        if root is not None and Path(file).is_relative_to(root):
            return Path(file).relative_to(root).as_posix()
    return file


def _print_classes(parts: dict[str, LabelledData]) -> None:
    classes = next(iter(parts.values())).classes
    print("images with each class: " + ", ".join(parts))
    for index, name in enumerate(classes):
        counts = (
            sum(any(a["category_id"] == index for a in record["annotations"]) for record in data.records)
            for data in parts.values()
        )
        print(f"  {name}: {', '.join(map(str, counts))}")
