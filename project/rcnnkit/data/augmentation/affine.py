"""Rotation, shear and shift inside the image's frame, for pixels, boxes, polygons, masks and keypoints.

Shapes: H×W image, N boxes or points. Coordinates are absolute pixels (x, y) that count from the corner of the first
pixel; matrices are 2 × 3 and act on them.
"""

from __future__ import annotations

import cv2
import numpy as np

from detectron2.data import transforms as T

EDGE = 1e-6  # pixels: points on the border stay inside in spite of rounding


class AffineTransform(T.Transform):
    """Move everything by one matrix; the frame stays, and what leaves it is gone, whatever other transforms follow.

    Points that are or come to lie outside become not-a-number, which later transforms keep and Detectron2 takes for
    outside: a point whose pixels were cut off must not come back when a later transform moves it inside again. Boxes
    follow the ellipse inside them: for an object without an outline that is the best guess at where its edges come to
    lie, and hulls of turned corners are too large. Kalra et al., "Towards rotation invariance in object detection",
    ICCV 2021, arXiv 2109.13488

    Args:
        matrix: (2, 3), from source to target coordinates.
        height, width: of the frame, in pixels.
        fill: value of the pixels that come from outside; masks get 0 there.
    """

    def __init__(self, matrix: np.ndarray, height: int, width: int, fill: float = 128.0):
        super().__init__()
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.height = height
        self.width = width
        self.fill = fill

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W) or (H, W, C), same shape and type."""
        return self._warp(img, cv2.INTER_LINEAR, self.fill)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(H, W) labels, taken from the nearest pixel; 0 outside, as masks need it."""
        return self._warp(segmentation, cv2.INTER_NEAREST, 0)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) → (N, 2) float64, not-a-number outside."""
        moved = self._map(coords)
        frame = (self.width, self.height)
        moved[~(_inside(coords, frame) & _inside(moved, frame))] = np.nan
        return moved.clip(0, frame)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """(N, 4) XYXY → (N, 4) inside the frame, a single point where nothing of the box is left."""
        frame = np.array([self.width, self.height] * 2, dtype=np.float64)
        seen = np.asarray(box, dtype=np.float64).reshape(-1, 4).clip(0, frame)
        half = (seen[:, 2:] - seen[:, :2]) / 2
        middle = self._map((seen[:, :2] + seen[:, 2:]) / 2)
        reach = np.sqrt(half**2 @ (self.matrix[:, :2] ** 2).T)
        moved = np.concatenate([middle - reach, middle + reach], axis=1).clip(0, frame)
        left = (half > 0).all(axis=1) & (moved[:, 2:] > moved[:, :2]).all(axis=1)
        # a point stays without area whatever follows
        moved[~left] = np.tile(moved[~left, :2], 2)
        return moved

    def apply_polygons(self, polygons: list) -> list:
        """(P, 2) arrays → those of what is left inside the frame; one may become several, or none."""
        return self._cut([self._map(polygon) for polygon in self._cut(polygons)])

    def _map(self, coords: np.ndarray) -> np.ndarray:
        return np.asarray(coords, dtype=np.float64).reshape(-1, 2) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def _cut(self, polygons: list) -> list:
        cutter = T.CropTransform(0, 0, self.width, self.height)
        kept: list[np.ndarray] = []
        for polygon in polygons:
            whole = _inside(polygon, (self.width, self.height)).all()
            kept.extend([polygon] if whole else cutter.apply_polygons([polygon]))
        return kept

    def _warp(self, img: np.ndarray, interpolation: int, fill: float) -> np.ndarray:
        matrix = self.matrix.copy()
        matrix[:, 2] += self.matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from the first pixel's centre
        warped = cv2.warpAffine(
            img, matrix, (self.width, self.height), flags=interpolation, borderValue=(float(fill),) * 4
        )
        return warped.reshape(img.shape)


def rotation(height: int, width: int, degrees: float, fill: float = 128.0) -> AffineTransform:
    """Counter-clockwise about the middle of the frame."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return _about_middle(np.array([[cos, sin], [-sin, cos]]), height, width, fill)


def shear(height: int, width: int, x_per_y: float, y_per_x: float, fill: float = 128.0) -> AffineTransform:
    """Pixels that x moves for each pixel of y away from the middle, and y for each of x."""
    return _about_middle(np.array([[1.0, x_per_y], [y_per_x, 1.0]]), height, width, fill)


def shift(height: int, width: int, x: float, y: float, fill: float = 128.0) -> AffineTransform:
    """By x pixels to the right and y down."""
    return AffineTransform(np.array([[1.0, 0.0, x], [0.0, 1.0, y]]), height, width, fill)


def _about_middle(linear: np.ndarray, height: int, width: int, fill: float) -> AffineTransform:
    middle = np.array([width / 2, height / 2])
    return AffineTransform(np.column_stack([linear, middle - linear @ middle]), height, width, fill)


def _inside(coords: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    points = np.asarray(coords).reshape(-1, 2)
    return np.all((points >= -EDGE) & (points <= np.add(frame, EDGE)), axis=1)
