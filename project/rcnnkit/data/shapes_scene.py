"""One picture of the data set `shapes`: which objects lie where, how they look, and which part of each is seen.

Shape letters: H, W height and width of the picture; S the oversampling (`SCALE`); V vertices; K keypoints.
Coordinates are absolute pixels (x, y), pixel (i, j) covering [j, j + 1) × [i, i + 1). Outlines are rasterised S times
larger, so that they are known to a fraction of a pixel; colours are painted `_PAINT` times larger and reduced, so that
edges are smooth.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

CLASSES = ("disc", "triangle", "bar", "star", "arrow")
KEYPOINT_CLASS = "arrow"
KEYPOINT_NAMES = ("tip", "left_barb", "right_barb", "tail")
KEYPOINT_FLIP_MAP = (("left_barb", "right_barb"),)
KEYPOINT_SKELETON = (("tip", "left_barb"), ("tip", "right_barb"), ("tip", "tail"))

IMAGE_SIZE = 128
SCALE = 4

_PAINT = 2  # oversampling of the colours; divides SCALE
_EMPTY_SHARE = 0.05  # pictures without any object
_MAX_OBJECTS = 5
_MIN_SEEN = 0.75  # an object that would leave less than this of another (or of itself) to be seen is placed elsewhere
_SIZES = ((0.06, 6.0, 8.5), (0.59, 13.0, 23.0), (0.35, 23.0, 36.0))  # share, smallest and largest radius (pixels)
_SUBPIXEL_BITS = 4
_PATTERNS = ("plain", "shaded", "stripes", "checks", "dots", "rings", "speckle")


@dataclass(frozen=True)
class Outline:
    """A closed polygon (V, 2) and, for the class that has them, its keypoints (K, 2); absolute pixels (x, y)."""

    vertices: np.ndarray
    keypoints: np.ndarray | None = None


@dataclass(frozen=True)
class SceneObject:
    """One object of a picture.

    Attributes:
        category: index into `CLASSES`.
        seen: (H·S, W·S) bool, the oversampled pixels where the object is seen (not hidden, inside the picture).
        keypoints: (K, 3) float, x, y in pixels and visibility as in COCO (0 outside the picture, with x = y = 0;
            1 hidden by another object; 2 seen); None for classes without keypoints.
    """

    category: int
    seen: np.ndarray
    keypoints: np.ndarray | None


def draw_scene(rng: np.random.Generator, size: int = IMAGE_SIZE) -> tuple[np.ndarray, list[SceneObject]]:
    """Draw one picture.

    Returns:
        The picture, (size, size, 3) uint8 BGR, and its objects from the lowest to the topmost.
    """
    canvas = _draw_background(rng, size * _PAINT)
    background = canvas.mean(axis=(0, 1))
    owner = np.zeros((size * SCALE, size * SCALE), np.uint8)  # 0 background, n the n-th object
    full_areas: list[int] = []
    placed: list[tuple[int, Outline]] = []
    wanted = 0 if rng.random() < _EMPTY_SHARE else int(rng.integers(1, _MAX_OBJECTS + 1))
    for _ in range(wanted * 4):
        if len(placed) == wanted:
            break
        category = int(rng.integers(len(CLASSES)))
        outline, angle, radius = _random_outline(rng, CLASSES[category], size)
        mask, area = _rasterise(outline.vertices, owner.shape)
        if not _leaves_enough_to_see(owner, mask, [*full_areas, area]):
            continue
        placed.append((category, outline))
        full_areas.append(area)
        owner[mask] = len(placed)
        alpha = cv2.resize(mask.astype(np.float32), canvas.shape[:2], interpolation=cv2.INTER_AREA)
        _paint_object(rng, canvas, alpha, outline.vertices.mean(axis=0) * _PAINT, angle, radius * _PAINT, background)
    objects = [
        SceneObject(category, owner == index, _keypoints_with_visibility(outline, owner, index))
        for index, (category, outline) in enumerate(placed, start=1)
    ]
    picture = np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA))
    picture += np.asarray(rng.normal(0.0, rng.uniform(1.0, 3.5), picture.shape), np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), objects


def outline_of(kind: str, proportion: float) -> Outline:
    """The outline of a class in its own frame: centre at the origin, reach about 1, pointing to +x.

    Args:
        kind: one of `CLASSES`.
        proportion: 0…1, how slender the shape is (0 the fullest).
    """
    if kind == "disc":
        angles = np.linspace(0.0, 2 * math.pi, 72, endpoint=False)
        return Outline(np.stack([np.cos(angles), (1.0 - 0.25 * proportion) * np.sin(angles)], axis=1))
    if kind == "triangle":
        half = 0.87 - 0.3 * proportion
        return Outline(np.array([[1.0, 0.0], [-0.6, half], [-0.6, -half]]))
    if kind == "bar":
        half = 0.7 - 0.55 * proportion  # from a square to a thin stick
        return Outline(np.array([[0.8, half], [-0.8, half], [-0.8, -half], [0.8, -half]]))
    if kind == "star":
        angles = np.arange(10) * math.pi / 5
        reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.5 - 0.1 * proportion)
        return Outline(np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1))
    shaft, barb = 0.24 - 0.1 * proportion, 0.72 - 0.17 * proportion
    right = [[0.15, barb], [0.15, shaft], [-1.0, shaft]]  # y grows downwards: right of the direction of travel
    left = [[-1.0, -shaft], [0.15, -shaft], [0.15, -barb]]
    keypoints = np.array([[1.0, 0.0], [0.15, -barb], [0.15, barb], [-1.0, 0.0]])
    return Outline(np.array([[1.0, 0.0], *right, *left]), keypoints)


def _random_outline(rng: np.random.Generator, kind: str, size: int) -> tuple[Outline, float, float]:
    shape = outline_of(kind, float(rng.random()))
    low, high = _SIZES[int(rng.choice(len(_SIZES), p=[share for share, _, _ in _SIZES]))][1:]
    radius = float(rng.uniform(low, high)) * size / IMAGE_SIZE
    angle = float(rng.uniform(0.0, 2 * math.pi))
    margin = 0.6 * radius  # some objects are cut by the border
    centre = rng.uniform(margin, size - margin, size=2)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    keypoints = None if shape.keypoints is None else shape.keypoints @ turn * radius + centre
    return Outline(shape.vertices @ turn * radius + centre, keypoints), angle, radius


def _rasterise(vertices: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The oversampled pixels inside the outline, and the area of the whole outline, border or not, in the same unit."""
    mask = np.zeros(shape, np.uint8)
    points = np.rint((vertices * SCALE - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [points], 1, shift=_SUBPIXEL_BITS)
    x, y = vertices[:, 0], vertices[:, 1]
    area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
    return mask.astype(bool), round(area * SCALE * SCALE)


def _leaves_enough_to_see(owner: np.ndarray, mask: np.ndarray, full_areas: list[int]) -> bool:
    after = np.bincount(owner[~mask], minlength=len(full_areas))
    seen = [*after[1 : len(full_areas)], int(mask.sum())]
    return all(part >= _MIN_SEEN * whole for part, whole in zip(seen, full_areas))


def _keypoints_with_visibility(outline: Outline, owner: np.ndarray, index: int) -> np.ndarray | None:
    if outline.keypoints is None:
        return None
    height, width = owner.shape
    head = outline.keypoints[:3].mean(axis=0)  # every keypoint's straight way to it runs inside the arrow
    result = np.zeros((len(outline.keypoints), 3))
    for row, point in zip(result, outline.keypoints):
        if not (0 <= point[0] * SCALE < width and 0 <= point[1] * SCALE < height):
            continue
        # Keypoints lie on the outline; who owns the place is asked a little inside of it.
        inside = point + (head - point) * 0.15
        column, line = (np.clip(inside * SCALE, 0, (width - 1, height - 1))).astype(int)
        row[:] = point[0], point[1], 2 if owner[line, column] == index else 1
    return result


def _draw_background(rng: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) float32: a muted, uneven surface with a faint structure of its own and a few scratches."""
    base = _colour(rng, saturation=(0.04, 0.25), value=(0.62, 0.97))
    other = np.clip(base * rng.uniform(0.82, 1.12) + rng.uniform(-15, 15, 3).astype(np.float32), 0, 255)
    coarse = cv2.resize(rng.random((5, 5), np.float32), (side, side), interpolation=cv2.INTER_CUBIC)[..., None]
    canvas = base * (1 - coarse) + other * coarse
    kind = str(rng.choice(["plain", "stripes", "checks", "speckle"]))
    angle, period = float(rng.uniform(0, math.pi)), float(rng.uniform(0.06, 0.25)) * side
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    canvas *= 1 + rng.uniform(-0.16, 0.16) * (_pattern(rng, kind, columns, rows, angle, period)[..., None] - 0.5)
    for _ in range(int(rng.integers(0, 4))):
        ends = rng.uniform(0, side, (2, 2)).astype(int)
        tone = (canvas.mean(axis=(0, 1)) * rng.uniform(0.7, 1.3)).tolist()
        cv2.line(canvas, ends[0].tolist(), ends[1].tolist(), tone, int(rng.integers(1, _PAINT + 1)), cv2.LINE_AA)
    return canvas


def _paint_object(
    rng: np.random.Generator,
    canvas: np.ndarray,
    alpha: np.ndarray,
    centre: np.ndarray,
    angle: float,
    radius: float,
    background: np.ndarray,
) -> None:
    """Lay a soft shadow and then the textured object upon the canvas."""
    margin = 6 * _PAINT
    lines, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    top, left = max(lines[0] - margin, 0), max(columns[0] - margin, 0)
    window = np.s_[top : lines[-1] + margin, left : columns[-1] + margin]
    region, inside = canvas[window], alpha[window]
    offset = 1.5 * _PAINT
    shifted = cv2.warpAffine(inside, np.array([[1, 0, offset], [0, 1, offset]], np.float32), inside.shape[::-1])
    region *= 1 - 0.4 * cv2.blur(shifted, (2 * _PAINT + 1, 2 * _PAINT + 1))[..., None]

    colour = _contrasting_colour(rng, background)
    second = np.clip(colour * rng.uniform(0.55, 0.8) if rng.random() < 0.6 else 0.65 * colour + 75, 0, 255)
    y, x = np.mgrid[0 : inside.shape[0], 0 : inside.shape[1]].astype(np.float32)
    x, y = x + (left - centre[0]), y + (top - centre[1])
    kind = str(rng.choice(_PATTERNS))
    period = max(float(rng.uniform(0.35, 0.8)) * radius, 3.0 * _PAINT)
    share = _pattern(rng, kind, x, y, angle + float(rng.uniform(0, math.pi)), period)[..., None]
    surface = colour * (1 - share) + second * share
    light = 1 - 0.18 * (x + y) / (1.4 * radius)  # lit from the upper left
    rim = cv2.blur(inside, (_PAINT + 1, _PAINT + 1))
    surface *= (light * (0.3 + 0.7 * np.clip(2 * rim - 1, 0, 1)))[..., None]
    region += inside[..., None] * (np.clip(surface, 0, 255) - region)


def _pattern(
    rng: np.random.Generator, kind: str, x: np.ndarray, y: np.ndarray, angle: float, period: float
) -> np.ndarray:
    """How much of the second colour each place takes, 0…1; `period` in the unit of x and y."""
    u = (x * math.cos(angle) + y * math.sin(angle)) / period
    v = (y * math.cos(angle) - x * math.sin(angle)) / period
    if kind == "stripes":
        pattern = (u % 1 < 0.5).astype(np.float32)
    elif kind == "checks":
        pattern = ((u % 1 < 0.5) ^ (v % 1 < 0.5)).astype(np.float32)
    elif kind == "dots":
        pattern = ((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.09).astype(np.float32)
    elif kind == "rings":
        pattern = (np.hypot(u, v) % 1 < 0.5).astype(np.float32)
    elif kind == "speckle":
        cells = [max(2, math.ceil(extent / (1.5 * _PAINT))) for extent in x.shape[::-1]]
        pattern = np.asarray(cv2.resize(rng.random(cells[::-1], np.float32), x.shape[::-1]), np.float32)
    elif kind == "shaded":
        pattern = np.clip(0.5 + 0.35 * u, 0, 1)
    else:
        pattern = np.zeros(x.shape, np.float32)
    return pattern


def _contrasting_colour(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """A strong colour that stands out; after a few draws the farthest of them."""
    draws = [_colour(rng, saturation=(0.55, 1.0), value=(0.35, 0.9)) for _ in range(3)]
    return max(draws, key=lambda colour: float(np.abs(colour - background).sum()))


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0] * 255
