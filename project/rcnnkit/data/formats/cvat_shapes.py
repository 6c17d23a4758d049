"""The geometry of CVAT's shapes: each XML element as a box with, where it has them, polygons, run lengths or keypoints.

Boxes are XYXY in continuous pixels. Every function takes (element, (height, width) of the image, label).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NoReturn
from xml.etree.ElementTree import Element

import numpy as np
import pycocotools.mask as mask_util

from rcnnkit.data.formats import outlines

_LARGEST_MASK = 1 << 30  # pixels of an image; a size beyond it is a mistake that would take all memory


class ShapeError(ValueError):
    """A shape that cannot be read: the kind of problem, the field, its value, and as message what to do."""

    def __init__(self, kind: str, field: str, value: object, advice: str):
        super().__init__(advice)
        self.kind, self.field, self.value = kind, field, value


@dataclass(slots=True)
class CvatLabel:
    """A label of the file: for skeletons the names of the points and the pairs of indices that are joined."""

    name: str
    points: list[str] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Geometry:
    """Where an object is; `segmentation` and `keypoints` as in a record."""

    box: list[float]
    segmentation: list[list[float]] | dict | None = None
    keypoints: list[float] | None = None


def box(shape: Element, size: tuple[int, int], label: CvatLabel) -> Geometry:
    """xtl, ytl, xbr, ybr; a turned one by the upright box around it."""
    x0, y0, x1, y1 = (_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    angle = _angle(shape)
    if angle:
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        half_width = ((x1 - x0) * cos + (y1 - y0) * sin) / 2
        half_height = ((x1 - x0) * sin + (y1 - y0) * cos) / 2
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        x0, y0, x1, y1 = x - half_width, y - half_height, x + half_width, y + half_height
    return Geometry([x0, y0, x1, y1])


def polygon(shape: Element, size: tuple[int, int], label: CvatLabel) -> Geometry:
    """points="x,y;x,y;..."."""
    outline = _points(shape)
    return Geometry(outlines.polygons_box([outline]), [outline])


def ellipse(shape: Element, size: tuple[int, int], label: CvatLabel) -> Geometry:
    """cx, cy, rx, ry and rotation in degrees clockwise."""
    cx, cy, rx, ry = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
    turn = _angle(shape)
    outline = outlines.ellipse(cx, cy, rx, ry, turn)
    return Geometry(outlines.polygons_box([outline]), [outline])


def mask(shape: Element, size: tuple[int, int], label: CvatLabel) -> Geometry:
    """rle="3, 5, 7, ...": lengths along the rows of the box left, top, width, height; the first is background."""
    left, top, width, height = (_whole(shape, name) for name in ("left", "top", "width", "height"))
    inside = min(left, top) >= 0 < min(width, height) and left + width <= size[1] and top + height <= size[0]
    if not inside or size[0] * size[1] > _LARGEST_MASK:
        corners = [left, top, left + width, top + height]
        advice = f"the mask lies outside the image of {size[1]} x {size[0]} pixels; draw it again"
        _refuse("mask-outside", "left, top, right, bottom", corners, advice)
    text = shape.get("rle", "")
    try:
        runs = np.array([int(run) for run in text.split(",")], dtype=np.int64)
    except (OverflowError, ValueError):
        _refuse("mask-unreadable", "rle", text, "run lengths are whole numbers with commas; draw the mask again")
    if runs.min() < 0 or runs.max() > width * height or runs.sum() != width * height:
        found = f"{runs.sum()} of {width} x {height} pixels"
        _refuse("mask-unreadable", "rle", found, "run lengths do not cover the mask's box; draw the mask again")
    whole = np.zeros(size, dtype=np.uint8, order="F")
    whole[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    coded = mask_util.encode(whole)
    rle = {"size": list(size), "counts": coded["counts"].decode("ascii")}
    return Geometry([float(left), float(top), float(left + width), float(top + height)], rle)


def skeleton(shape: Element, size: tuple[int, int], label: CvatLabel) -> Geometry:
    """<points label="name" outside="0" occluded="0" points="x,y"/>; the box is around the points that are there."""
    marks = {}
    for item in shape.findall("points"):
        point = _points(item)[:2]
        hidden = item.get("occluded") == "1"
        marks[item.get("label", "")] = [0.0, 0.0, 0] if item.get("outside") == "1" else [*point, 1 if hidden else 2]
    if not label.points:
        label.points = list(marks)
    unknown = [name for name in marks if name not in label.points]
    if unknown:
        known = ", ".join(label.points)
        _refuse(
            "keypoint-unknown", "points", unknown, f"the skeleton {label.name!r} has the points {known}; correct it"
        )
    keypoints = [value for name in label.points for value in marks.get(name, (0.0, 0.0, 0))]
    there = [value for x, y, v in marks.values() if v for value in (x, y)]
    if not there:
        advice = "no point of the skeleton is in the image; delete it"
        _refuse("keypoints-none-labelled", "points", shape.get("label"), advice)
    return Geometry(outlines.polygons_box([there]), keypoints=keypoints)


def points(shape: Element, size: tuple[int, int], label: CvatLabel) -> Geometry | None:
    """Two or more points as keypoints `point 1`, `point 2`, ...; None for a single one."""
    flat = _points(shape)
    count = len(flat) // 2
    if count < 2:
        return None
    if not label.points:
        label.points = [f"point {number}" for number in range(1, count + 1)]
    if count != len(label.points):
        advice = f"other objects of {label.name!r} have {len(label.points)} points; mark as many, or use a skeleton"
        _refuse("keypoint-count", "points", count, advice)
    visible = 1 if shape.get("occluded") == "1" else 2
    keypoints = [value for i in range(0, 2 * count, 2) for value in (flat[i], flat[i + 1], visible)]
    return Geometry(outlines.polygons_box([flat]), keypoints=keypoints)


SHAPES = {"box": box, "polygon": polygon, "ellipse": ellipse, "mask": mask, "skeleton": skeleton, "points": points}
OBJECTS = frozenset(SHAPES)


def _refuse(kind: str, field: str, value: object, advice: str) -> NoReturn:
    raise ShapeError(kind, field, value, advice)


def _number(shape: Element, name: str, default: float | None = None) -> float:
    text = shape.get(name)
    if text is None and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError:
        _refuse("shape-unreadable", name, text, "it must be a number; correct it or delete the shape")


def _angle(shape: Element) -> float:
    degrees = _number(shape, "rotation", 0.0)
    if not math.isfinite(degrees):
        _refuse("shape-unreadable", "rotation", degrees, "it must be a finite number; correct it or delete the shape")
    return math.radians(degrees)


def _whole(shape: Element, name: str) -> int:
    value = _number(shape, name)
    if not value.is_integer():  # neither is NaN nor infinity
        _refuse("shape-unreadable", name, value, "it must be a whole number; draw the mask again")
    return int(value)


def _points(shape: Element) -> list[float]:
    """[x0, y0, x1, y1, ...]."""
    text = shape.get("points", "")
    try:
        pairs = [[float(value) for value in pair.split(",")] for pair in text.split(";") if pair]
    except ValueError:
        pairs = []
    if not pairs or any(len(pair) != 2 for pair in pairs):
        _refuse("shape-unreadable", "points", text, "points are written x,y;x,y; correct them or delete the shape")
    return [value for pair in pairs for value in pair]
