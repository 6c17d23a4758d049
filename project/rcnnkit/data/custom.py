"""Data sets that a config names itself: entries of `DATASETS.CUSTOM`, each a COCO JSON file and a folder of images."""

import functools
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from rcnnkit.data.coco_check import check_coco
from rcnnkit.data.keypoints import keypoint_metadata
from rcnnkit.data.labelled import Skeleton
from rcnnkit.errors import UserError, nearest

FIELDS = ("name", "json", "images")


def register_custom_datasets(entries: Sequence[dict]) -> None:
    """Register each entry, with its classes and keypoints; the records are read when they are first used.

    Args:
        entries: dictionaries with `name` (what `DATASETS.TRAIN` and `TEST` say), `json` (a COCO annotation file) and
            `images` (the folder that its `file_name`s are relative to; by default the folder of the JSON).

    Raises:
        UserError: an entry with an unknown or missing field, a file that is not there or not COCO, or a name that is
            taken by other data.
    """
    for position, entry in enumerate(entries):
        where = f"DATASETS.CUSTOM[{position}]"
        name, json_file, images = _fields(where, entry)
        described = {"json_file": str(json_file), "image_root": str(images), "evaluator_type": "coco"}
        if name in DatasetCatalog.list():
            registered = {key: MetadataCatalog.get(name).get(key) for key in described}
            if registered != described:
                raise UserError(
                    f"{where}: the name {name!r} is taken by {registered}, this entry is {described}; rename it"
                )
            continue
        categories = sorted(check_coco(name, json_file)["categories"], key=lambda c: c["id"])
        classes = [category["name"] for category in categories]
        DatasetCatalog.register(name, functools.partial(load_coco_json, str(json_file), str(images), name))
        MetadataCatalog.get(name).set(**described, **keypoint_metadata(_skeletons(categories), classes))
        MetadataCatalog.get(name).set(thing_classes=classes, data_format="coco")


def _skeletons(categories: Sequence[dict]) -> dict[int, Skeleton]:
    """By class index, the keypoints of a COCO file's categories; its skeletons count from 1."""
    return {
        index: Skeleton(tuple(c["keypoints"]), tuple((a - 1, b - 1) for a, b in c.get("skeleton", ())))
        for index, c in enumerate(categories)
        if c.get("keypoints")
    }


def _fields(where: str, entry: dict) -> tuple[str, Path, Path]:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {entry!r}; an entry has the fields {', '.join(FIELDS)}")
    for field in entry:
        if field not in FIELDS:
            raise UserError(
                f"{where} has the unknown field {field!r}; nearest: {', '.join(nearest(str(field), FIELDS, 3))}"
            )
    for field in ("name", "json"):
        if not entry.get(field):
            raise UserError(f"{where} has no {field!r}; an entry has the fields {', '.join(FIELDS)}")
    json_file = Path(entry["json"])
    images = Path(entry.get("images") or json_file.parent)
    if not json_file.is_file():
        raise UserError(f"{where}: the annotation file {json_file} is missing")
    if not images.is_dir():
        raise UserError(f"{where}: the folder of images {images} is missing")
    return str(entry["name"]), json_file, images
