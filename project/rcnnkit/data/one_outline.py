"""One closed polygon for an object that has several parts or holes, for formats that hold one polygon an object.

The polygon runs round one loop, over to the next, round it and back the same way. Such a cut has no width: by the
even-odd rule, which pycocotools and Ultralytics fill by, the raster is that of the loops.

Shape letters: H, W height and width of a raster; V vertices of one loop. Coordinates are absolute pixels (x, y).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import shapely


def one_polygon(polygons: Sequence[Sequence[float]]) -> list[float]:
    """One polygon [x0, y0, ...] that covers what the polygons cover together; one alone is returned as it is."""
    if len(polygons) == 1:
        return list(polygons[0])
    loops = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in polygons]
    shapes = [shapely.make_valid(shapely.Polygon(loop)) for loop in loops]
    union = shapely.union_all(shapes)
    # Where parts overlap, the even-odd rule would cut a hole; elsewhere the parts stay to the last digit.
    if union.area < sum(shape.area for shape in shapes) * (1 - 1e-9):
        loops = [
            np.asarray(ring.coords)[:-1]
            for part in shapely.get_parts(union)
            if part.geom_type == "Polygon"
            for ring in (part.exterior, *part.interiors)
        ]
    return _joined(loops)


def outline_of_mask(mask: np.ndarray) -> list[float]:
    """One polygon [x0, y0, ...] along the edges of a mask's pixels; filled it is the mask, pixel by pixel.

    Args:
        mask: (H, W) bool or uint8.

    Returns:
        Whole numbers; empty for an empty mask.
    """
    loops = _pixel_loops(np.asarray(mask, bool))
    return _joined(loops) if loops else []


def _joined(loops: Iterable[np.ndarray]) -> list[float]:
    """All loops (V, 2) in one, each cut to what is joined already where the vertices are closest."""
    first, *others = loops
    outline = first
    for loop in others:
        distances = np.square(outline[:, None] - loop[None]).sum(axis=2)
        start, entry = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.roll(loop, -int(entry), axis=0)
        outline = np.concatenate([outline[: start + 1], around, around[:1], outline[start:]])
    return outline.ravel().tolist()


def _pixel_loops(mask: np.ndarray) -> list[np.ndarray]:
    """Closed loops along the edges between set and unset pixels, corners only, the set pixels on the right-hand side.

    Pixels that touch at a corner only are in different loops.
    """
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    # Where the neighbour above, to the right, below, to the left is unset: the edge's start, and its direction.
    for neighbour, (x, y), step in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    ):
        rows, columns = np.nonzero(inner & ~neighbour)
        for start in zip((columns + x).tolist(), (rows + y).tolist()):
            following[start].append(step)
    loops = []
    while following:
        start = next(iter(following))
        loops.append(_loop(start, following))
    return loops


def _loop(start: tuple[int, int], following: dict[tuple[int, int], list[tuple[int, int]]]) -> np.ndarray:
    """Follow edges from a vertex until it comes again; they are taken out of `following`."""
    corners = []
    (x, y), step = start, (0, 0)
    first_step = following[start][0]
    while True:
        steps = following[x, y]
        right = (-step[1], step[0])  # staying with the same pixel where two touch at a corner
        taken = right if right in steps else steps[0]
        if taken != step:
            corners.append((x, y))
        steps.remove(taken)
        if not steps:
            del following[x, y]
        x, y, step = x + taken[0], y + taken[1], taken
        if (x, y) == start and _turned(step, following.get(start, ()), first_step):
            if step == first_step:  # the loop began in the middle of an edge
                corners.pop(0)
            return np.array(corners, np.float64)


def _turned(step: tuple[int, int], left: Sequence[tuple[int, int]], first_step: tuple[int, int]) -> bool:
    """Whether the loop is closed at its start: it does not go on from there with the edges that are left."""
    right = (-step[1], step[0])
    return not left or first_step == right or right not in left
