"""Shapes as labelling tools store them, as polygons and boxes in absolute pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_DEVIATION = 0.1  # pixels between a round outline and the polygon in its place
_MOST_VERTICES = 360


def numbers(values: object) -> list[float] | None:
    """The list as floats; None for anything else than a list of numbers."""
    if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
        return None
    try:
        return [float(value) for value in values]
    except OverflowError:
        return None


def flat_points(points: object) -> list[float] | None:
    """`[[x, y], ...]` as `[x, y, ...]`; None for anything else than a list of points."""
    if not isinstance(points, list):
        return None
    flat: list[float] = []
    for point in points:
        pair = numbers(point)
        if pair is None or len(pair) != 2:
            return None
        flat += pair
    return flat


def ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> list[float]:
    """A polygon [x0, y0, ...] inscribed in an ellipse, at most 0.1 px from it up to a radius of 1600 px.

    Args:
        cx, cy: its centre.
        rx, ry: half of its axes.
        angle: of the first axis to the image's, in radians, from x towards y.
    """
    radius = max(abs(rx), abs(ry))
    count = 16
    if radius > 2:  # a chord over the angle 2 π / n lies r (1 - cos(π / n)) ≈ r π² / 2 n² inside the arc
        quarter = math.ceil(math.pi / 4 * math.sqrt(min(radius, 1e6) / (2 * _DEVIATION)))
        count = min(max(4 * quarter, count), _MOST_VERTICES)
    # An angle that is not finite has no cosine; it makes a polygon of NaN, which the check finds.
    cos, sin = (math.cos(angle), math.sin(angle)) if math.isfinite(angle) else (math.nan, math.nan)
    polygon: list[float] = []
    for step in range(count):
        turn = 2 * math.pi * step / count
        a, b = rx * math.cos(turn), ry * math.sin(turn)
        polygon += [cx + a * cos - b * sin, cy + a * sin + b * cos]
    return polygon


def polygons_box(polygons: Iterable[Sequence[float]]) -> list[float]:
    """The smallest box [x0, y0, x1, y1] around polygons that have a point."""
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs), max(ys)]


def boxes_union(boxes: Sequence[Sequence[float]]) -> list[float]:
    """The smallest box [x0, y0, x1, y1] around boxes."""
    return [*(min(box[i] for box in boxes) for i in (0, 1)), *(max(box[i] for box in boxes) for i in (2, 3))]
