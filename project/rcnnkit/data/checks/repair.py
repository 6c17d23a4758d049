"""Repairs that lose nothing a training could use: the rest stays as it is and is told again by the next check.

Coordinates are absolute pixels; boxes XYXY.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import shapely

from detectron2.structures import BoxMode
from rcnnkit.data.checks.boxes import box_kinds
from rcnnkit.data.checks.duplicates import duplicate_objects
from rcnnkit.data.checks.images import ImageState
from rcnnkit.data.checks.keypoints import keypoint_problem
from rcnnkit.data.checks.masks import disagrees, mask_extent, mask_problem
from rcnnkit.data.checks.places import Places, box_of, object_id, shown
from rcnnkit.data.checks.polygons import polygon_kinds
from rcnnkit.data.labelled import LabelledData

# What a repaired data set has none of. Of `image-size`, only sizes that cannot come from scaling the picture.
REPAIRED = frozenset({
    "box-empty", "box-negative", "box-not-finite", "box-outside", "mask-box-disagree", "mask-empty",
    "polygon-short", "polygon-empty", "polygon-outside", "polygon-unreadable", "keypoints-unreadable",
    "duplicate-object", "duplicate-annotation-id", "image-missing", "image-unreadable", "image-truncated",
})  # fmt: skip
_UNUSABLE_IMAGES = ("image-missing", "image-unreadable", "image-truncated")
_SAME_ASPECT = 0.01  # two sizes whose aspects differ by less may be those of a picture before and after scaling


@dataclass(slots=True)
class _Changes:
    """One line for each change, with the place as the check names it."""

    places: Places
    lines: list[str] = field(default_factory=list)

    def of_object(self, record: dict, annotation: dict, what: str) -> None:
        file, image = self.places.annotation_file(record), self.places.image(record)
        seen = "" if image == file else f" ({image})"
        self.lines.append(f"{file}: {object_id(record, annotation)}{seen}: {what}")

    def of_record(self, record: dict, what: str) -> None:
        self.lines.append(f"{self.places.annotation_file(record)}: image {self.places.image(record)}: {what}")


def repaired_data(
    data: LabelledData, places: Places, states: Mapping[str, ImageState]
) -> tuple[LabelledData, list[str]]:
    """A repaired copy, and one line for each change. `data` and its records stay as they are."""
    changes = _Changes(places)
    records = []
    for record in data.records:
        state = states[record["file_name"]]
        if state.kind in _UNUSABLE_IMAGES:
            count = len(record["annotations"])
            changes.of_record(record, f"left out with its {count} objects: {state.advice}")
            continue
        records.append(_repaired_record(record, data, state, changes))
    if data.format == "coco":
        _number_anew(records, changes)
    return replace(data, records=records, is_coco_file=False), changes.lines


def _repaired_record(record: dict, data: LabelledData, state: ImageState, changes: _Changes) -> dict:
    result = dict(record)
    size = _size_from_header(record, state)
    if size is not None:
        changes.of_record(record, f"size {record['width']}x{record['height']} becomes {size[0]}x{size[1]}, the file's")
        result["width"], result["height"] = size
    kept = []
    for annotation in record["annotations"]:
        repaired = _repaired_object(annotation, result, data, partial(changes.of_object, record, annotation))
        if repaired is not None:
            kept.append((repaired, annotation))
    original = {id(repaired): annotation for repaired, annotation in kept}
    repeated = {}
    for annotation, first in duplicate_objects([repaired for repaired, _ in kept]):
        repeated[id(annotation)] = first
        name = object_id(record, original[id(first)])
        changes.of_object(record, original[id(annotation)], f"deleted: the same as {name}")
    result["annotations"] = [repaired for repaired, _ in kept if id(repaired) not in repeated]
    return result


def _size_from_header(record: dict, state: ImageState) -> tuple[int, int] | None:
    """The file's size where the record has another that is plainly wrong; None where it is right or may be meant.

    A turned or a scaled picture has its objects elsewhere: who can say which was labelled? And objects that the file
    has no room for were drawn on another picture.
    """
    found = state.header
    if found is None or (record["width"], record["height"]) == (found.width, found.height):
        return None
    if (record["width"], record["height"]) == (found.stored_width, found.stored_height):
        return None
    if abs(record["width"] * found.height / (record["height"] * found.width) - 1) < _SAME_ASPECT:
        return None
    boxes = np.array([box_of(annotation) for annotation in record["annotations"]], float).reshape(-1, 4)
    sizes = np.tile([float(found.width), float(found.height)], (len(boxes), 1))
    return None if (box_kinds(boxes, sizes) == "box-outside").any() else (found.width, found.height)


def _repaired_object(annotation: dict, record: dict, data: LabelledData, note: Callable[[str], None]) -> dict | None:
    """The object with its mask, keypoints and box repaired; None where nothing of it is left."""
    width, height = record["width"], record["height"]
    result = copy(annotation)
    _repair_mask(result, width, height, note)
    points = result.get("keypoints")
    if points is not None:
        found = keypoint_problem(points, data.skeletons.get(result["category_id"]), None, None)
        if found is not None and found[0] == "keypoints-unreadable":
            del result["keypoints"]
            note(f"keypoints {shown(points)} deleted: not numbers x, y, visibility; the object stays")
    if not _repair_box(result, width, height, note):
        return None
    same = all(result.get(key) == annotation.get(key) for key in ("bbox", "segmentation"))
    if not same:
        result.pop("area", None)
    return result


def _repair_mask(result: dict, width: int, height: int, note: Callable[[str], None]) -> None:
    segmentation = result.get("segmentation")
    if segmentation is None:
        return
    if mask_problem(segmentation, width, height)[0] == "mask-empty":
        del result["segmentation"]
        note("segmentation deleted: no pixel is set; the object stays")
        return
    if not isinstance(segmentation, list):
        return
    polygons = []
    for index, (polygon, kind) in enumerate(zip(segmentation, polygon_kinds(segmentation, width, height), strict=True)):
        if kind in ("polygon-short", "polygon-empty", "polygon-unreadable"):
            note(f"segmentation[{index}] {shown(polygon)} deleted: {kind}")
        elif kind == "polygon-outside":
            parts = clipped_polygon(polygon, width, height)
            note(f"segmentation[{index}] {shown(polygon)} cut at the border of the image: {len(parts)} polygons remain")
            polygons += parts
        else:
            polygons.append(polygon)
    if polygons:
        result["segmentation"] = polygons
    else:
        del result["segmentation"]
        note("segmentation deleted: no polygon is left; the object stays if its box can be used")


def clipped_polygon(polygon: list[float], width: float, height: float) -> list[list[float]]:
    """What of a polygon lies in the image, as polygons without holes; empty where nothing does."""
    shape = shapely.make_valid(shapely.Polygon(np.asarray(polygon, float).reshape(-1, 2)))
    inside = shapely.intersection(shape, shapely.box(0, 0, width, height))
    parts = [part for part in shapely.get_parts(inside) if part.geom_type == "Polygon" and part.area > 0]
    return [[float(number) for number in np.asarray(part.exterior.coords)[:-1].ravel()] for part in parts]


def _repair_box(result: dict, width: int, height: int, note: Callable[[str], None]) -> bool:
    """Mend the box in place; False where the object has to go."""
    box = np.array(box_of(result))
    kind = str(box_kinds(box[None], np.array([[width, height]], float))[0])
    extent = _usable_extent(result.get("segmentation"), width, height)
    if not kind and (extent is None or not disagrees(box.tolist(), extent.tolist())):
        return True
    written = shown(result.get("bbox"))
    if extent is not None:
        _set_box(result, extent)
        note(f"bbox {written} becomes {shown(result['bbox'])}, the one around the mask: {kind or 'mask-box-disagree'}")
        return True
    if kind == "box-negative":
        box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
    border = np.array([width, height, width, height], float)
    clipped = np.clip(box, 0, border)
    if not np.isfinite(box).all() or (clipped[2:] <= clipped[:2]).any():
        note(f"deleted: bbox {written} has no area in the image: {kind}")
        return False
    _set_box(result, clipped)
    note(f"bbox {written} becomes {shown(result['bbox'])}: {kind}")
    return True


def _usable_extent(segmentation, width: int, height: int) -> np.ndarray | None:
    """The box around a mask within the image; None where the mask is none, or not of this image."""
    if segmentation is None or mask_problem(segmentation, width, height)[0]:
        return None
    found = mask_extent(segmentation)
    if found is None:
        return None
    extent = np.clip(found, 0, [width, height, width, height])
    return extent if (extent[2:] > extent[:2]).all() else None


def _set_box(result: dict, box: np.ndarray) -> None:
    if result.get("bbox_mode") == BoxMode.XYWH_ABS:
        box = np.concatenate([box[:2], box[2:] - box[:2]])
    result["bbox"] = [float(number) for number in box]


def _number_anew(records: list[dict], changes: _Changes) -> None:
    """Objects whose id an earlier one has get one that is free."""
    seen: set[int | str] = set()
    numbers = [entry["id"] for record in records for entry in record["annotations"] if isinstance(entry.get("id"), int)]
    free = max(numbers, default=0) + 1
    for record in records:
        for annotation in record["annotations"]:
            if "id" in annotation and annotation["id"] in seen:
                changes.of_object(record, annotation, f"id {annotation['id']!r} becomes {free}: another object has it")
                annotation["id"] = free
                free += 1
            seen.add(annotation.get("id", free))
