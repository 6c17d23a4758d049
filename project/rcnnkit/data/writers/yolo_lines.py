"""Lines of YOLO's label files: one object, in fractions of the image's width and height.

Format: https://docs.ultralytics.com/datasets. Nine significant digits: a number reads back to float32 exactly, and to a
hundred-thousandth of a pixel in an image of ten thousand.

Coordinates of annotations are absolute pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pycocotools.mask as mask_util

from detectron2.structures import BoxMode
from rcnnkit.data.checks.repair import clipped_polygon
from rcnnkit.data.one_outline import one_polygon, outline_of_mask

_AGREE = 1.0  # pixels that a labelled box may differ from that of its polygon without being told
Note = Callable[[str, str, object, str], None]  # kind, field, value, advice


def box_line(annotation: dict, width: int, height: int, note: Note) -> str | None:
    """`class x y width height` of the part of the box in the image; None, and a note, where there is none."""
    box = _box_in_image(annotation, width, height, note)
    if box is None:
        return None
    return _line(annotation, _centred(box, width, height))


def polygon_line(annotation: dict, width: int, height: int, note: Note) -> str | None:
    """`class x0 y0 x1 y1 ...` of the mask as one polygon, with parts and holes joined by cuts; None without a mask."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        polygon = outline_of_mask(_decoded(segmentation))
        if polygon:
            advice = "written as the outline of its pixels, which fills to the same mask"
            note("runs-outlined", "segmentation", "run lengths", advice)
    else:
        parts = [part for part in segmentation or () if len(part) >= 6 and len(part) % 2 == 0]
        parts = _in_image(parts, width, height, note)
        if len(parts) > 1:
            advice = "joined by cuts without width: a line is one polygon"
            note("parts-joined", "segmentation", f"{len(parts)} parts", advice)
        polygon = one_polygon(parts) if parts else []
    if len(polygon) < 6:
        return None
    _compare_with_box(annotation, polygon, note)
    sides = (width, height)
    return _line(annotation, [number / sides[place % 2] for place, number in enumerate(polygon)])


def pose_line(annotation: dict, count: int, width: int, height: int, note: Note) -> str | None:
    """`class x y width height` and x, y, visibility of `count` points; those that are not labelled are 0 0 0."""
    box = _box_in_image(annotation, width, height, note)
    if box is None:
        return None
    points = list(annotation.get("keypoints") or ())
    if points and len(points) != 3 * count:
        note("keypoints-count", "keypoints", len(points), f"the classes have {count} points; these are left out")
        points = []
    numbers = _centred(box, width, height)
    for x, y, visibility in np.reshape(points, (-1, 3)).tolist():
        if visibility > 0 and not (0 <= x <= width and 0 <= y <= height):
            note("keypoint-outside", "keypoints", [x, y], "written as not labelled: YOLO has none outside the image")
            visibility = 0
        numbers += [x / width, y / height, int(visibility)] if visibility > 0 else [0, 0, 0]
    numbers += [0, 0, 0] * (count - len(points) // 3)
    return _line(annotation, numbers)


def _line(annotation: dict, numbers: Sequence[float]) -> str:
    return " ".join([str(annotation["category_id"]), *(f"{number:.9g}" for number in numbers)])


def _box_in_image(annotation: dict, width: int, height: int, note: Note) -> list[float] | None:
    box = BoxMode.convert(list(map(float, annotation["bbox"])), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0:
        note("box-negative", "bbox", annotation["bbox"], "it has a width or height below 0; the object is left out")
        return None
    clipped = [min(max(x0, 0), width), min(max(y0, 0), height), min(max(x1, 0), width), min(max(y1, 0), height)]
    if clipped == box:
        return box
    if _is_flat(clipped) and not _is_flat(box):
        note("box-outside", "bbox", annotation["bbox"], "it lies outside the image; the object is left out")
        return None
    if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > 1e-3:
        note("cut-at-border", "bbox", annotation["bbox"], "cut at the border: YOLO has nothing outside the image")
    return clipped


def _is_flat(box: Sequence[float]) -> bool:
    return box[2] <= box[0] or box[3] <= box[1]


def _centred(box: Sequence[float], width: int, height: int) -> list[float]:
    x0, y0, x1, y1 = box
    return [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]


def _in_image(parts: Sequence[list[float]], width: int, height: int, note: Note) -> list[list[float]]:
    inside: list[list[float]] = []
    for part in parts:
        excess = max(-min(part), max(part[0::2]) - width, max(part[1::2]) - height)
        if excess <= 0:
            inside.append(part)
        elif excess <= 1e-3:
            inside.append([min(max(number, 0), (width, height)[i % 2]) for i, number in enumerate(part)])
        else:
            note("cut-at-border", "segmentation", part, "cut at the border: YOLO has nothing outside the image")
            inside += clipped_polygon(part, width, height)
    return inside


def _compare_with_box(annotation: dict, polygon: Sequence[float], note: Note) -> None:
    box = BoxMode.convert(list(map(float, annotation["bbox"])), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    extent = [min(polygon[0::2]), min(polygon[1::2]), max(polygon[0::2]), max(polygon[1::2])]
    if max(abs(a - b) for a, b in zip(box, extent, strict=True)) > _AGREE:
        note("box-left-out", "bbox", annotation["bbox"], "it is not that of the mask; YOLO has the mask's")


def _decoded(segmentation: dict) -> np.ndarray:
    if isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
    return mask_util.decode(segmentation)
