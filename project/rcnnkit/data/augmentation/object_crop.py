"""A random crop that cuts no object: each is in it whole, or not at all.

Shapes: N boxes, (N, 4) absolute XYXY pixels.
"""

from __future__ import annotations

import numpy as np

from detectron2.data import transforms as T


class ObjectCrop(T.Augmentation):
    """With some probability, crop to a random window with at least one object, grown until it cuts none.

    A window that cuts an object leaves a label that is no longer true where only a box is known: the visible part need
    not reach the window's edge. Images without objects are cropped to the random window itself.

    Args:
        prob: of a crop, 0 to 1.
        scale: (least, most) of the window's sides relative to the image's, each side drawn for itself, before it grows.
    """

    def __init__(self, prob: float, scale: tuple[float, float]):
        super().__init__()
        self.prob = prob
        self.scale = tuple(scale)

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        """`boxes`: (N, 4) of the objects; those without area are none."""
        if self._rand_range() >= self.prob:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        size = np.array([width, height])
        extent = np.maximum(np.rint(self._rand_range(self.scale[0], self.scale[1], 2) * size), 1)
        least, most = np.zeros(2), size - extent
        objects = boxes_inside(boxes, width, height)
        if len(objects):
            chosen = objects[int(self._rand_range(len(objects)))]
            middle = (chosen[:2] + chosen[2:]) / 2
            least = np.clip(np.ceil(middle - extent), least, most)
            most = np.clip(np.floor(middle), least, most)
        corner = np.floor(least + self._rand_range(0.0, 1.0, 2) * (most - least + 1)).clip(least, most)
        window = grown(np.concatenate([corner, corner + extent]), objects)
        x0, y0, x1, y1 = (int(edge) for edge in window)
        return T.CropTransform(x0, y0, x1 - x0, y1 - y0, width, height)


def boxes_inside(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """(M, 4): the boxes cut to the image, without those of which nothing is in it."""
    seen = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).clip(0, [width, height, width, height])
    return seen[(seen[:, 2:] > seen[:, :2]).all(axis=1)]


def grown(window: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The smallest window of whole pixels around `window` that cuts none of the boxes.

    Args:
        window: (4,) XYXY.
        boxes: (N, 4) XYXY, none empty.

    Returns:
        (4,) float64 of whole numbers.
    """
    window = np.concatenate([np.floor(window[:2]), np.ceil(window[2:])])
    while True:
        touched = boxes[((boxes[:, :2] < window[2:]) & (boxes[:, 2:] > window[:2])).all(axis=1)]
        if not len(touched):
            return window
        larger = np.concatenate(
            [
                np.minimum(window[:2], np.floor(touched[:, :2].min(axis=0))),
                np.maximum(window[2:], np.ceil(touched[:, 2:].max(axis=0))),
            ]
        )
        if (larger == window).all():
            return window
        window = larger
