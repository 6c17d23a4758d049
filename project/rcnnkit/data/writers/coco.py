"""COCO JSON (https://cocodataset.org/#format-data) of labelled data, written image by image.

What the format holds is kept as it is: boxes, polygons, run lengths, crowds, areas, keypoints with a skeleton of each
class, and as an extension that pycocotools reads, `ignore`. Numbers are written so that they read back the same; only
those that are computed on the way (the width of a box that was two corners, keypoints) are rounded to a millionth of a
pixel.

Coordinates are absolute pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pycocotools.mask as mask_util

from detectron2.structures import BoxMode
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog
from rcnnkit.data.mask_outlines import polygon_area
from rcnnkit.errors import UserError
from rcnnkit.files import whole_file

_HALF_PIXEL = 0.5  # COCO's keypoints are indices of pixels, whose centres lie half a pixel on
_DIGITS = 6  # of computed numbers: a millionth of a pixel
_TOO_LARGE = 2**63  # the first whole number that evaluators and JSON writers have no place for


def write_coco(
    data: LabelledData,
    path: str | Path,
    image_root: str | Path | None = None,
    *,
    file_names: Sequence[str] | None = None,
    problems: ProblemLog | None = None,
) -> None:
    """Write a COCO JSON file, whole or not at all.

    Ids of categories, images and objects stay as they are where all are different whole numbers (from 0 on; objects
    from 1 on, because pycocotools takes 0 for none); otherwise all are numbered from 1 on, in the order of the records.
    `image_ids` and `category_ids` say which they become.

    Args:
        image_root: what the file names are relative to; None: the folder that all the images have in common.
        file_names: of the images in the order of the records, instead of those relative to `image_root`.
        problems: takes objects that COCO cannot hold, which are left out: a number that is not finite, a polygon of
            fewer than three points.

    Raises:
        UserError: an image that is not below `image_root`; without `problems`, also an object that COCO cannot hold.
        OSError: the file cannot be written.
    """
    log = ProblemLog() if problems is None else problems
    if file_names is None:
        file_names = _relative_names(data, image_root)
    ids, numbers = image_ids(data), _object_numbers(data)
    with whole_file(Path(path)) as file:
        file.write(b'{"categories":' + orjson.dumps(_categories(data)) + b',"images":[')
        for position, record in enumerate(data.records):
            size = {"height": record["height"], "width": record["width"]}
            image = {"id": ids[position], "file_name": file_names[position], **size}
            file.write((b",\n" if position else b"\n") + orjson.dumps(image, option=orjson.OPT_SERIALIZE_NUMPY))
        file.write(b'\n],"annotations":[')
        separator = b"\n"
        categories = category_ids(data)
        for position, record in enumerate(data.records):
            entries = _annotations(record, ids[position], categories, numbers, file_names[position], log)
            content = orjson.dumps(entries, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
            if content:
                file.write(separator + content)
                separator = b",\n"
        file.write(b"\n]}\n")
        if problems is None:
            log.raise_errors(str(path))


def image_ids(data: LabelledData) -> list[int]:
    """The id of each record's image in the file."""
    return whole_ids([record["image_id"] for record in data.records], 0)


def category_ids(data: LabelledData) -> list[int]:
    """The id of each class in the file."""
    return whole_ids(data.category_ids or range(1, len(data.classes) + 1), 0)


def _object_numbers(data: LabelledData) -> Iterator[int]:
    found = [annotation.get("id") for record in data.records for annotation in record["annotations"]]
    return iter(whole_ids(found, 1))


def whole_ids(ids: Sequence[Any], lowest: int) -> list[int]:
    """The ids if all are different whole numbers from `lowest` on, of 64 bits; otherwise 1, 2, 3 ..."""
    if all(type(entry) is int and lowest <= entry < _TOO_LARGE for entry in ids) and len(set(ids)) == len(ids):
        return list(ids)
    return list(range(1, len(ids) + 1))


def _relative_names(data: LabelledData, image_root: str | Path | None) -> list[str]:
    names = [record["file_name"] for record in data.records]
    if image_root is None:
        image_root = os.path.commonpath([os.path.dirname(name) for name in names]) if names else "/"
    # Records have real paths, also where the given folder is a link.
    starts = tuple(
        f"{folder.rstrip(os.sep)}{os.sep}" for folder in (os.path.abspath(image_root), os.path.realpath(image_root))
    )
    relative = []
    for name in names:
        start = next((one for one in starts if name.startswith(one)), None)
        if start is None:
            raise UserError(f"{name}: the image is not below {image_root}; name the folder that holds all images")
        relative.append(name[len(start) :].replace(os.sep, "/"))
    return relative


def _categories(data: LabelledData) -> list[dict]:
    categories: list[dict] = []
    for index, (category_id, name) in enumerate(zip(category_ids(data), data.classes, strict=True)):
        category = {"id": category_id, "name": name}
        skeleton = data.skeletons.get(index)
        if skeleton is not None:
            category["keypoints"] = list(skeleton.names)
            category["skeleton"] = [[start + 1, end + 1] for start, end in skeleton.edges]
        categories.append(category)
    return categories


def _annotations(
    record: dict, image_id: int, categories: list[int], numbers: Iterator[int], file_name: str, problems: ProblemLog
) -> list[dict]:
    entries = []
    for annotation, number in zip(record["annotations"], numbers):
        box = _box(annotation)
        entry = {
            "id": number,
            "image_id": image_id,
            "category_id": categories[annotation["category_id"]],
            "bbox": box,
            "iscrowd": int(annotation.get("iscrowd", 0)),
        }
        found = unwritable(annotation)
        if found is not None:
            kind, field, value, advice = found
            problems.add(kind, file_name, advice, id=annotation.get("id"), field=field, value=value)
            continue
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, dict):
            segmentation = _runs(segmentation)
        elif segmentation:
            segmentation = _polygons(segmentation, annotation, file_name, problems)
        entry["area"] = _area(annotation, segmentation, box)
        if segmentation:
            entry["segmentation"] = segmentation
        if annotation.get("ignore"):
            entry["ignore"] = 1
        points = annotation.get("keypoints")
        if points is not None:
            entry["keypoints"] = _keypoints(points)
            entry["num_keypoints"] = sum(visibility > 0 for visibility in points[2::3])
        entries.append(entry)
    return entries


def unwritable(annotation: dict) -> tuple[str, str, object, str] | None:
    """Why text formats cannot hold an object: kind, field, value, advice; None where they can."""
    segmentation = annotation.get("segmentation")
    fields = [("bbox", annotation["bbox"]), ("keypoints", annotation.get("keypoints") or ())]
    fields += [("segmentation", polygon) for polygon in segmentation] if isinstance(segmentation, list) else []
    for field, numbers in fields:
        # A sum is finite where every number is: one pass without a Python loop. Overflow is looked at closely.
        if abs(sum(numbers)) < _TOO_LARGE and max(numbers, default=0) < _TOO_LARGE:
            continue
        value = next((number for number in numbers if not abs(number) < _TOO_LARGE), None)
        if value is not None:
            advice = "it has a number that is not finite, or beyond all pixels; correct or delete the object"
            return "not-finite", field, value, advice
    return None


def _box(annotation: dict) -> list[float]:
    box = annotation["bbox"]
    if annotation["bbox_mode"] == BoxMode.XYWH_ABS:
        return list(box)
    x0, y0, x1, y1 = box
    return [x0, y0, round(x1 - x0, _DIGITS), round(y1 - y0, _DIGITS)]


def _polygons(segmentation: list, annotation: dict, file_name: str, problems: ProblemLog) -> list[list[float]]:
    usable = [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if len(usable) < len(segmentation):
        short = next(polygon for polygon in segmentation if len(polygon) < 6 or len(polygon) % 2)
        advice = "a polygon has x, y of at least three points; this one is left out"
        name = annotation.get("id")
        problems.add("polygon-short", file_name, advice, id=name, field="segmentation", value=short, severity=WARNING)
    return usable


def _runs(segmentation: dict) -> dict:
    counts = segmentation["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    return {"size": [int(side) for side in segmentation["size"]], "counts": counts}


def _area(annotation: dict, segmentation: list | dict | None, box: list[float]) -> float:
    """The area that is labelled; otherwise as COCO has it: of the polygons, the mask's pixels, without both the box."""
    area = annotation.get("area")
    if area is not None and abs(area) < _TOO_LARGE:
        return area
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            return sum(segmentation["counts"][1::2])
        return int(mask_util.area({"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}))
    if segmentation:
        return round(sum(map(polygon_area, segmentation)), _DIGITS)
    return round(box[2] * box[3], _DIGITS)


def _keypoints(points: Sequence[float]) -> list[float]:
    """Pixel indices; those of points that are not labelled are no less than 0, as COCO writes them."""
    moved = np.round(np.asarray(points, np.float64) - _HALF_PIXEL, _DIGITS)
    visibility = points[2::3]
    for axis in (0, 1):
        moved[axis::3] = np.where(np.asarray(visibility) == 0, np.maximum(moved[axis::3], 0), moved[axis::3])
    result: list[float] = [int(value) if value.is_integer() else value for value in moved.tolist()]
    result[2::3] = visibility
    return result
