"""The data formats that rcnnkit reads, and which of them a folder is in."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from rcnnkit.data.formats.reader import Reader
from rcnnkit.data.labelled import LabelledData, ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError, nearest

# name → module:class, in the order in which they are tried: the more particular ones come first.
READERS = {
    "coco": "coco:CocoReader",
    "via": "via:ViaReader",
    "labelme": "labelme:LabelMeReader",
    "cvat": "cvat:CvatReader",
    "voc": "voc:VocReader",
    "deeplabcut": "deeplabcut:DeepLabCutReader",
    "openimages": "openimages:OpenImagesReader",
    "yolo": "yolo:YoloReader",
    "masks": "mask_png:MaskPngReader",
}


@dataclass(frozen=True, slots=True)
class Recognition:
    """A format that a folder may be in, and what in the folder says so."""

    reader: Reader
    reason: str


def reader_named(name: str) -> Reader:
    """The reader of a format.

    Raises:
        UserError: no such format.
    """
    if name not in READERS:
        raise UserError(f"format {name!r} is unknown; nearest: {', '.join(nearest(name, READERS, 4))}, or auto")
    module, class_name = READERS[name].split(":")
    return getattr(importlib.import_module(f"rcnnkit.data.formats.{module}"), class_name)()


def recognise(tree: Tree) -> list[Recognition]:
    """The formats that the folder shows, the surest first."""
    found = []
    for name in READERS:
        reader = reader_named(name)
        reason = reader.recognise(tree)
        if reason is not None:
            found.append(Recognition(reader, reason))
    return found


def choose_reader(tree: Tree, data_format: str = "auto") -> Recognition:
    """The reader of a folder: the one of the named format, or the first that recognises the folder.

    Raises:
        UserError: an unknown format, or a folder in none of the known ones.
    """
    if data_format != "auto":
        return Recognition(reader_named(data_format), f"format {data_format} as the config says")
    found = recognise(tree)
    if not found and tree.links_out:
        refused = ProblemLog()
        tree.refuse_links_out(refused)
        refused.raise_errors(str(tree.root))
    if not found:
        raise UserError(
            f"{tree.root}: in no known format ({', '.join(READERS)}); it holds {len(tree.files)} files, "
            f"{len(tree.images)} of them images. Name the format with `format:`, or see docs/datasets.md"
        )
    return found[0]


__all__ = [
    "READERS",
    "LabelledData",
    "ProblemLog",
    "Reader",
    "Recognition",
    "Tree",
    "choose_reader",
    "reader_named",
    "recognise",
]
