"""Random rotation inside the image's frame."""

from __future__ import annotations

import numpy as np

from detectron2.data import transforms as T
from rcnnkit.data.augmentation.affine import rotation


class RotateInFrame(T.Augmentation):
    """With some probability, rotate about the middle of the image by an angle of a range; the image keeps its size.

    Args:
        prob: of a rotation, 0 to 1.
        degrees: (least, most) counter-clockwise; uniform between them.
        fill: value of the pixels that come from outside.
    """

    def __init__(self, prob: float, degrees: tuple[float, float], fill: float = 128.0):
        super().__init__()
        self.prob = prob
        self.degrees = tuple(degrees)
        self.fill = fill

    def get_transform(self, image: np.ndarray) -> T.Transform:
        if self._rand_range() >= self.prob:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        return rotation(height, width, float(self._rand_range(*self.degrees)), self.fill)
