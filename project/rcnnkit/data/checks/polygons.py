"""Polygons that cannot be drawn, leave their image or cross themselves.

Coordinates are absolute pixels; a polygon is a flat list [x0, y0, x1, y1, ...].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import shapely

from rcnnkit.data.checks.boxes import OUTSIDE_PIXELS
from rcnnkit.data.checks.places import Places
from rcnnkit.data.labelled import WARNING, LabelledData, Problem

# How much of the area may depend on the reading of the polygon: corners that an annotator let overlap by a hair, and
# holes joined to the outline by a cut without width, are as they should be.
CROSSING_PIXELS, CROSSING_SHARE = 0.25, 0.01

ADVICE = {
    "polygon-unreadable": "write a list of finite numbers x, y, x, y, ...",
    "polygon-odd": "a coordinate is missing or superfluous; write x, y pairs",
    "polygon-short": "a polygon has at least three points; draw it anew or delete it",
    "polygon-empty": "its points lie on one line and enclose nothing; draw it anew or delete it",
    "polygon-outside": "draw it within the image, and check that width and height are those of this image",
    "polygon-crossing": "its outline crosses itself, so that its area is ambiguous; put its points in order",
}
_SEVERITY = {"polygon-crossing": WARNING}


def check_polygons(data: LabelledData, places: Places) -> Iterator[Problem]:
    """Problems of the polygons: at most one for each."""
    for record in data.records:
        entries = [
            (annotation, index, polygon)
            for annotation in record["annotations"]
            if isinstance(annotation.get("segmentation"), list)
            for index, polygon in enumerate(annotation["segmentation"])
        ]
        kinds = polygon_kinds([polygon for *_, polygon in entries], record.get("width"), record.get("height"))
        for (annotation, index, polygon), kind in zip(entries, kinds, strict=True):
            if kind:
                field = f"segmentation[{index}]"
                severity = _SEVERITY.get(kind, "error")
                yield places.of_object(kind, record, annotation, field, polygon, ADVICE[kind], severity)


def polygon_kinds(polygons: Sequence, width: float | None, height: float | None) -> list[str]:
    """What is wrong with each polygon of an image: a key of `ADVICE`, or empty.

    Args:
        polygons: flat lists, or whatever was written in their place.
        width, height: of the image; None: unknown.
    """
    kinds = [list_kind(polygon) for polygon in polygons]
    fine = [row for row, kind in enumerate(kinds) if not kind]
    if not fine:
        return kinds
    points = [np.asarray(polygons[row], float).reshape(-1, 2) for row in fine]
    starts = np.cumsum([0] + [len(polygon) for polygon in points[:-1]])
    flat = np.concatenate(points)
    border = (width or math.inf, height or math.inf)
    beyond = np.maximum.reduceat(np.maximum(-flat, flat - border).max(1), starts)
    rings = shapely.linearrings(flat, indices=np.repeat(np.arange(len(points)), [len(polygon) for polygon in points]))
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers are told as outside
        simple = shapely.is_simple(rings)
    areas = _signed_areas(flat, starts)
    for row, outline, far, is_simple, area in zip(fine, points, beyond, simple, areas, strict=True):
        if far > OUTSIDE_PIXELS:
            kinds[row] = "polygon-outside"
        elif not is_simple and crosses_itself(outline):
            kinds[row] = "polygon-crossing"
        elif area == 0:
            kinds[row] = "polygon-empty"
    return kinds


def list_kind(polygon) -> str:
    """What keeps a list from being a polygon: `polygon-unreadable`, `-odd` or `-short`; empty where nothing does."""
    try:
        finite = isinstance(polygon, list | tuple) and all(map(math.isfinite, polygon))
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        return "polygon-unreadable"
    if len(polygon) % 2:
        return "polygon-odd"
    return "polygon-short" if len({*zip(polygon[::2], polygon[1::2])}) < 3 else ""


def _signed_areas(flat: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Areas of polygons whose points (N, 2) follow one another, by the shoelace formula, in square pixels."""
    lengths = np.diff(starts, append=len(flat))
    near = flat - np.repeat(flat[starts], lengths, axis=0)  # far from the origin the products would lose digits
    following = np.roll(near, -1, axis=0)
    following[starts + lengths - 1] = 0  # each first point, which is the origin now
    with np.errstate(over="ignore", invalid="ignore"):
        return 0.5 * np.add.reduceat(near[:, 0] * following[:, 1] - near[:, 1] * following[:, 0], starts)


def crosses_itself(points: np.ndarray) -> bool:
    """Whether a polygon (V, 2) crosses itself so that its area depends on how it is read.

    What lies within an odd number of turns of the outline is compared with the signed area, in which loops that run
    against the outline subtract. Outlines that only touch themselves give the same.
    """
    signed = abs(_signed_areas(points, np.array([0]))[0])
    inside = shapely.make_valid(shapely.Polygon(points)).area
    return bool(abs(inside - signed) > max(CROSSING_PIXELS, CROSSING_SHARE * max(inside, signed)))
