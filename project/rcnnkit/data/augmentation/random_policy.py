"""A random policy: some operations of a list, all with one magnitude.

Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space", CVPR workshops 2020,
https://arxiv.org/abs/1909.13719; the operations and their ranges are those of AutoAugment, Cubuk et al., CVPR 2019,
https://arxiv.org/abs/1805.09501, table 6, with magnitudes from 0 to 10. The operations that move pixels move boxes,
masks and keypoints with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from detectron2.data import transforms as T
from rcnnkit.data.augmentation.affine import rotation, shear, shift

MOST = 10  # the largest magnitude
DEGREES, SHEAR, SHIFT, FACTOR, BITS = 30.0, 0.3, 150 / 331, 0.9, 4  # at that magnitude; shifts relative to the side

Picture = Image.Image
COLOUR: dict[str, Callable[[Picture, float], Picture]] = {
    "autocontrast": lambda picture, _: ImageOps.autocontrast(picture),
    "equalize": lambda picture, _: ImageOps.equalize(picture),
    "solarize": lambda picture, share: ImageOps.solarize(picture, round(256 * (1 - abs(share)))),
    "posterize": lambda picture, share: ImageOps.posterize(picture, 8 - round(BITS * abs(share))),
    "color": lambda picture, share: ImageEnhance.Color(picture).enhance(1 + FACTOR * share),
    "contrast": lambda picture, share: ImageEnhance.Contrast(picture).enhance(1 + FACTOR * share),
    "brightness": lambda picture, share: ImageEnhance.Brightness(picture).enhance(1 + FACTOR * share),
    "sharpness": lambda picture, share: ImageEnhance.Sharpness(picture).enhance(1 + FACTOR * share),
}
GEOMETRY: dict[str, Callable[[int, int, float, float], T.Transform]] = {
    "rotate": lambda height, width, share, fill: rotation(height, width, DEGREES * share, fill),
    "shear_x": lambda height, width, share, fill: shear(height, width, SHEAR * share, 0, fill),
    "shear_y": lambda height, width, share, fill: shear(height, width, 0, SHEAR * share, fill),
    "translate_x": lambda height, width, share, fill: shift(height, width, SHIFT * share * width, 0, fill),
    "translate_y": lambda height, width, share, fill: shift(height, width, 0, SHIFT * share * height, fill),
}
OPERATIONS = ("identity", *COLOUR, *GEOMETRY)


class RandomPolicy(T.Augmentation):
    """Apply `count` operations, each drawn from all of the list, with a random sign of the magnitude.

    Args:
        operations: names out of OPERATIONS.
        count: operations for each image.
        magnitude: 0 to 10, for all operations.
        image_format: order of the channels: "BGR", "RGB" or "L".
        fill: value of the pixels that come from outside.
    """

    def __init__(
        self, operations: Sequence[str], *, count: int, magnitude: float, image_format: str, fill: float = 128.0
    ):
        super().__init__()
        self.operations = tuple(operations)
        self.count = count
        self.magnitude = magnitude
        self.image_format = image_format
        self.fill = fill

    def get_transform(self, image: np.ndarray) -> T.Transform:
        chosen = []
        for _ in range(self.count):
            name = self.operations[int(self._rand_range(len(self.operations)))]
            sign = 1 if self._rand_range() < 0.5 else -1
            share = sign * self.magnitude / MOST
            chosen.append(operation(name, share, image.shape[:2], self.image_format, self.fill))
        return T.TransformList(chosen)


def operation(name: str, share: float, size: tuple[int, int], image_format: str, fill: float = 128.0) -> T.Transform:
    """One operation as a transform.

    Args:
        name: of OPERATIONS.
        share: -1 to 1, of the largest magnitude; the sign counts where there are two directions.
        size: (height, width) of the image.
        image_format: order of the channels.
        fill: value of the pixels that come from outside.
    """
    if name in GEOMETRY:
        return GEOMETRY[name](*size, share, fill)
    if name in COLOUR:
        return T.ColorTransform(partial(_recoloured, name=name, share=share, image_format=image_format))
    return T.NoOpTransform()


def _recoloured(image: np.ndarray, *, name: str, share: float, image_format: str) -> np.ndarray:
    """(H, W, C) uint8 → the same; Pillow's operations weigh the channels as RGB."""
    if image.ndim == 3 and image.shape[2] == 1:
        return np.asarray(COLOUR[name](Image.fromarray(image[:, :, 0]), share))[:, :, None]
    step = -1 if image_format == "BGR" else 1
    picture = Image.fromarray(np.ascontiguousarray(image[:, :, ::step]))
    return np.ascontiguousarray(np.asarray(COLOUR[name](picture, share))[:, :, ::step])
