"""Polygons of a mask: from a raster to the lists of coordinates that COCO's `segmentation` holds.

Shape letters: H, W height and width of the raster; V vertices of one polygon.
A polygon of COCO has no holes; a hole is joined to the outline around it by a cut without width, which
leaves area and raster as they are.
"""

from operator import mul

import cv2
import numpy as np

_TOLERANCE = 0.3  # pixels of the picture, how far a polygon may leave the raster's edge
_MIN_PART_AREA = 2.0  # square pixels of the picture; smaller specks of an object are left out


def polygons_of_mask(mask: np.ndarray, scale: int = 1) -> list[list[float]]:
    """The outlines of a mask.

    Args:
        mask: (H, W) bool.
        scale: oversampling: pixels of the mask per pixel of the picture.

    Returns:
        One flat list [x0, y0, x1, y1, …] per part, absolute pixels of the picture, two decimals; at least three
        vertices each. Empty when nothing of the mask is large enough.
    """
    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None:
        return []
    polygons = []
    for index, (_, _, first_hole, parent) in enumerate(tree[0]):
        if parent >= 0:
            continue
        outline = _simplify(contours[index], scale)
        if outline is None:
            continue
        hole = first_hole
        while hole >= 0:
            inner = _simplify(contours[hole], scale)
            if inner is not None:
                outline = _join(outline, inner)
            hole = tree[0][hole][0]
        points = np.round((outline + 0.5) / scale, 2)
        polygons.append(points.ravel().tolist())
    return polygons


def polygon_area(polygon: list[float]) -> float:
    """Area of a flat polygon [x0, y0, …] in square pixels (shoelace formula)."""
    xs, ys = polygon[0::2], polygon[1::2]
    # Lists: for the few points of a polygon, arrays would take ten times as long to make.
    return 0.5 * abs(sum(map(mul, xs, ys[1:] + ys[:1])) - sum(map(mul, ys, xs[1:] + xs[:1])))


def _simplify(contour: np.ndarray, scale: int) -> np.ndarray | None:
    """The contour (V, 2) with vertices that the tolerance makes superfluous left out; None for a speck."""
    if cv2.contourArea(contour) < _MIN_PART_AREA * scale * scale:
        return None
    vertices = cv2.approxPolyDP(contour, _TOLERANCE * scale, closed=True).reshape(-1, 2).astype(np.float64)
    return vertices if len(vertices) >= 3 else None


def _join(outline: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """One closed polygon that runs round the outline, over to the hole, round it and back the same way."""
    distances = np.square(outline[:, None] - hole[None]).sum(axis=2)
    start, entry = np.unravel_index(int(distances.argmin()), distances.shape)
    around = np.roll(hole, -int(entry), axis=0)
    return np.concatenate([outline[: start + 1], around, around[:1], outline[start:]])
