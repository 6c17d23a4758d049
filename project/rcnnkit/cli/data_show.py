"""`rcnnkit data show`: a contact sheet of annotated images, of a folder or of a registered data set."""

import argparse
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.cli.data_source import add_source, read_source, tell
from rcnnkit.data.checks import check
from rcnnkit.data.labelled import ERROR, Problem
from rcnnkit.data.naming import is_path
from rcnnkit.errors import UserError, nearest
from rcnnkit.files import write_picture
from rcnnkit.inference.drawing import contact_sheet
from rcnnkit.inference.label_tiles import label_tile

_MOST_LINES = 4  # of problems below a picture


@dataclass(frozen=True, slots=True)
class _Shown:
    record: dict
    classes: list[str]
    captions: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the picture to write, .png or .jpg")
    parser.add_argument("--count", type=int, default=24, help="of images (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="draw the images at random (default: the first ones)")
    parser.add_argument("--columns", type=int, default=4, help="of the sheet (default: %(default)s)")
    parser.add_argument("--tile", type=int, default=320, help="width of a picture in pixels (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="show the images without annotations as well, above")
    parser.add_argument("--worst", action="store_true", help="those with the most problems, and what they are")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")


def run(arguments: argparse.Namespace) -> int:
    """Draw and write the sheet."""
    if arguments.out.exists() and not arguments.overwrite:
        raise UserError(f"--out {arguments.out}: is there already; --overwrite replaces it")
    if arguments.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out {arguments.out}: name a file that ends with .png or .jpg")
    if min(arguments.count, arguments.columns) < 1 or arguments.tile < 32:
        raise UserError("--count and --columns must be at least 1, --tile at least 32")
    shown = _worst(arguments) if arguments.worst else _chosen(arguments)
    if not shown:
        print(f"{arguments.path}: no image has a problem; nothing is drawn")
        return 0
    ratio = float(np.median([entry.record["height"] / entry.record["width"] for entry in shown]))
    size = (arguments.tile, max(round(arguments.tile * ratio), 16))
    lines = max(len(entry.captions) for entry in shown)
    shown = [_Shown(s.record, s.classes, [*s.captions, *[""] * (lines - len(s.captions))]) for s in shown]
    tiles = [label_tile(entry.record, entry.classes, size, entry.captions) for entry in shown]
    columns = min(arguments.columns, len(tiles))
    if arguments.plain:
        blank = [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)  # a new row
        plain = [label_tile(entry.record, entry.classes, size, entry.captions, annotated=False) for entry in shown]
        tiles = [*plain, *blank, *tiles]
    write_picture(arguments.out, contact_sheet(tiles, columns))
    print(f"{arguments.out}: {len(shown)} images of {arguments.path}")
    return 0


def _chosen(arguments: argparse.Namespace) -> list[_Shown]:
    if is_path(arguments.path):
        found = read_source(arguments)
        tell(found.problems, "what could not be read, and is not shown:")
        of_parts = [(data.classes, data.records) for data in found.distinct().values()]
    else:
        if arguments.path not in DatasetCatalog.list():
            known = ", ".join(nearest(arguments.path, DatasetCatalog.list()))
            raise UserError(f"{arguments.path}: neither a path nor a registered data set; nearest: {known}")
        records = DatasetCatalog.get(arguments.path)
        of_parts = [(list(MetadataCatalog.get(arguments.path).get("thing_classes", [])), records)]
    entries = [(classes, record) for classes, records in of_parts for record in records]
    if not entries:
        raise UserError(f"{arguments.path}: has no images that can be shown")
    if arguments.seed is None:
        indices = list(range(len(entries)))[: arguments.count]
    else:
        rng = np.random.default_rng(arguments.seed)
        indices = rng.permutation(len(entries))[: arguments.count].tolist()
    return [_Shown(entries[i][1], entries[i][0], [_caption(entries[i][1])]) for i in indices]


def _caption(record: dict) -> str:
    count = len(record["annotations"])
    return f"{count} object{'' if count == 1 else 's'}: {os.path.basename(record['file_name'])}"


def _worst(arguments: argparse.Namespace) -> list[_Shown]:
    """Images by the number of errors, then of warnings, each with what is wrong."""
    if not is_path(arguments.path):
        raise UserError(f"{arguments.path}: no such file or folder; --worst reads a data set from its files")
    checked = check(arguments.path, data_format=arguments.format, images=arguments.images, split=arguments.split)
    by_image: dict[str, list[Problem]] = {}
    for problem in checked.problems:
        by_image.setdefault(problem.image or problem.file, []).append(problem)

    def badness(record: dict) -> tuple[int, int]:
        found = by_image.get(checked.tree.relative(Path(record["file_name"])), [])
        errors = sum(problem.severity == ERROR for problem in found)
        return errors, len(found)

    seen: dict[str, _Shown] = {}
    for data in checked.parts.values():
        for record in data.records:
            name = checked.tree.relative(Path(record["file_name"]))
            if name in by_image:
                kinds = Counter(problem.kind for problem in by_image[name])
                lines = [f"{count} x {kind}" for kind, count in kinds.most_common(_MOST_LINES)]
                seen.setdefault(name, _Shown(record, data.classes, [os.path.basename(name), *lines]))
    return sorted(seen.values(), key=lambda entry: badness(entry.record), reverse=True)[: arguments.count]
