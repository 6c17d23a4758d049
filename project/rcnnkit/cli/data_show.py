"""`rcnnkit data show`: a contact sheet of annotated images, of a folder or of a registered data set."""

import argparse
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.cli.data_augmented import chosen, training_items
from rcnnkit.cli.data_source import add_source, read_source, tell
from rcnnkit.data.checks import check
from rcnnkit.data.labelled import ERROR, Problem
from rcnnkit.data.naming import is_path
from rcnnkit.errors import UserError, nearest
from rcnnkit.files import write_picture
from rcnnkit.inference.drawing import contact_sheet
from rcnnkit.inference.item_tiles import item_tile
from rcnnkit.inference.label_tiles import label_tile

_MOST_LINES = 4  # of problems below a picture


@dataclass(frozen=True, slots=True)
class _Shown:
    """An image: its height over its width, and what draws its tile from size, captions and whether with labels."""

    ratio: float
    captions: list[str]
    tile: Callable[[tuple[int, int], Sequence[str], bool], np.ndarray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the picture to write, .png or .jpg")
    parser.add_argument("--count", type=int, default=24, help="of images (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="choose images at random (default: the first); also of augmentations")
    parser.add_argument("--columns", type=int, default=4, help="of the sheet (default: %(default)s)")
    parser.add_argument("--tile", type=int, default=320, help="width of a picture in pixels (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="show the images without annotations as well, above")
    parser.add_argument("--worst", action="store_true", help="those with the most problems, and what they are")
    parser.add_argument("--augmented", action="store_true", help="what a training sees; with --config-file")
    parser.add_argument("--config-file", default="", metavar="FILE", help="config of the training")
    parser.add_argument("--draws", type=int, default=1, help="of each image, with --augmented (default: %(default)s)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the config, in pairs")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")


def run(arguments: argparse.Namespace) -> int:
    """Draw and write the sheet."""
    if arguments.out.exists() and not arguments.overwrite:
        raise UserError(f"--out {arguments.out}: is there already; --overwrite replaces it")
    if arguments.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out {arguments.out}: name a file that ends with .png or .jpg")
    if min(arguments.count, arguments.columns) < 1 or arguments.tile < 32:
        raise UserError("--count and --columns must be at least 1, --tile at least 32")
    if not arguments.augmented and (arguments.config_file or arguments.opts or arguments.draws != 1):
        raise UserError("--config-file, --draws and KEY VALUE say what --augmented shows; add it, or leave them out")
    if arguments.augmented:
        shown = _augmented(arguments)
    else:
        shown = _worst(arguments) if arguments.worst else _chosen(arguments)
    if not shown:
        print(f"{arguments.path}: no image has a problem; nothing is drawn")
        return 0
    ratio = float(np.median([entry.ratio for entry in shown]))
    size = (arguments.tile, max(round(arguments.tile * ratio), 16))
    lines = max(len(entry.captions) for entry in shown)
    captions = [[*entry.captions, *[""] * (lines - len(entry.captions))] for entry in shown]
    tiles = [entry.tile(size, texts, True) for entry, texts in zip(shown, captions, strict=True)]
    columns = min(arguments.columns, len(tiles))
    if arguments.plain:
        blank = [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)  # a new row
        plain = [entry.tile(size, texts, False) for entry, texts in zip(shown, captions, strict=True)]
        tiles = [*plain, *blank, *tiles]
    write_picture(arguments.out, contact_sheet(tiles, columns))
    draws = f", {arguments.draws} draws each" if arguments.draws > 1 else ""
    print(f"{arguments.out}: {len(shown) // arguments.draws} images of {arguments.path}{draws}")
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
    indices = chosen(len(entries), arguments.count, arguments.seed)
    return [_labelled(*entries[i]) for i in indices]


def _labelled(classes: list[str], record: dict) -> _Shown:
    caption = _caption(len(record["annotations"]), os.path.basename(record["file_name"]))
    return _Shown(record["height"] / record["width"], [caption], partial(label_tile, record, classes))


def _augmented(arguments: argparse.Namespace) -> list[_Shown]:
    shown = []
    for item, classes, image_format, title in training_items(arguments):
        height, width = item["image"].shape[1:]
        caption = _caption(len(item["instances"]), f"{title}, {width}x{height}")
        shown.append(_Shown(height / width, [caption], partial(item_tile, item, classes, image_format)))
    return shown


def _caption(count: int, name: str) -> str:
    return f"{count} object{'' if count == 1 else 's'}: {name}"


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

    seen: dict[str, tuple[dict, list[str], list[str]]] = {}
    for data in checked.parts.values():
        for record in data.records:
            name = checked.tree.relative(Path(record["file_name"]))
            if name in by_image:
                kinds = Counter(problem.kind for problem in by_image[name])
                lines = [f"{count} x {kind}" for kind, count in kinds.most_common(_MOST_LINES)]
                seen.setdefault(name, (record, data.classes, [os.path.basename(name), *lines]))
    worst = sorted(seen.values(), key=lambda entry: badness(entry[0]), reverse=True)[: arguments.count]
    return [
        _Shown(record["height"] / record["width"], lines, partial(label_tile, record, c)) for record, c, lines in worst
    ]
