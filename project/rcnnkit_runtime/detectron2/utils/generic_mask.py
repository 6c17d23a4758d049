"""One object's mask as polygons and as pixels, whichever a drawing needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

_MIN_POLYGON_COORDINATES = 6


class GenericMask:
    """A mask given as polygons, run lengths or pixels; the other forms are made when first asked for.

    Attributes:
        polygons: arrays `[x0, y0, x1, y1, ...]` in pixels, one for each part (holes are parts, too).
        mask: uint8 array [height, width] of 0 and 1.
        has_holes: whether a part lies inside another one.
    """

    def __init__(self, mask_or_polygons: Any, height: int, width: int):
        """
        Args:
            mask_or_polygons: COCO's run lengths (compressed or not), a list of polygons, or an array [height, width].

        Raises:
            ValueError: another kind of object, or a mask of another size.
        """
        self.height = height
        self.width = width
        self._mask: np.ndarray | None = None
        self._polygons: list[np.ndarray] | None = None
        self._has_holes: bool | None = None
        if isinstance(mask_or_polygons, Mapping):
            self._mask = self._decode(mask_or_polygons)
        elif isinstance(mask_or_polygons, np.ndarray) and mask_or_polygons.ndim == 2:
            self._mask = (mask_or_polygons > 0).astype(np.uint8)
        elif isinstance(mask_or_polygons, (list, tuple)):
            self._polygons = [np.asarray(polygon, dtype=np.float64).reshape(-1) for polygon in mask_or_polygons]
            self._has_holes = False
        else:
            raise ValueError(
                f"GenericMask cannot handle object {mask_or_polygons} of type '{type(mask_or_polygons)}'; give run "
                "lengths, a list of polygons or an array [height, width]"
            )
        if self._mask is not None and self._mask.shape != (height, width):
            raise ValueError(f"mask shape: {self._mask.shape}, target dims: {height}, {width}")

    @staticmethod
    def _decode(rle: Mapping[str, Any]) -> np.ndarray:
        if isinstance(rle["counts"], list):
            rle = mask_util.frPyObjects(dict(rle), *rle["size"])
        return mask_util.decode(rle)

    @property
    def mask(self) -> np.ndarray:
        if self._mask is None:
            self._mask = self.polygons_to_mask(self.polygons)
        return self._mask

    @property
    def polygons(self) -> list[np.ndarray]:
        if self._polygons is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self.mask)
        return self._polygons

    @property
    def has_holes(self) -> bool:
        if self._has_holes is None:
            self._polygons, self._has_holes = self.mask_to_polygons(self.mask)
        return self._has_holes

    def mask_to_polygons(self, mask: np.ndarray) -> tuple[list[np.ndarray], bool]:
        """Trace the outlines of a mask through the centres of its border pixels.

        Returns:
            the polygons, and whether the mask has holes. Parts of one or two pixels have no polygon.
        """
        contours, hierarchy = cv2.findContours(
            np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
        )
        if hierarchy is None:
            return [], False
        has_holes = bool((hierarchy.reshape(-1, 4)[:, 3] >= 0).any())
        polygons = [contour.reshape(-1) + 0.5 for contour in contours]
        return [polygon for polygon in polygons if len(polygon) >= _MIN_POLYGON_COORDINATES], has_holes

    def polygons_to_mask(self, polygons: Sequence[np.ndarray]) -> np.ndarray:
        """Fill polygons by COCO's rule; uint8 [height, width]."""
        filled = [list(map(float, polygon)) for polygon in polygons if len(polygon) >= _MIN_POLYGON_COORDINATES]
        if not filled:
            return np.zeros((self.height, self.width), dtype=np.uint8)
        return mask_util.decode(mask_util.merge(mask_util.frPyObjects(filled, self.height, self.width)))

    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    def bbox(self) -> np.ndarray:
        """XYXY box around the pixels; zeros for an empty mask."""
        columns = np.flatnonzero(self.mask.any(axis=0))
        rows = np.flatnonzero(self.mask.any(axis=1))
        if len(columns) == 0:
            return np.zeros(4)
        return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)
