"""Random brightness, contrast, saturation and hue; geometry and labels stay.

Shapes: (H, W, C) uint8 with C = 3 or 1.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from detectron2.data import transforms as T

COLOUR_ORDERS = {"RGB": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB), "BGR": (cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)}


class PhotometricJitter(T.Augmentation):
    """Each of the four changes with the same probability, drawn for itself.

    As in the training of SSD: Liu et al., "SSD: single shot multibox detector", ECCV 2016, arXiv 1512.02325, section
    2.2, "Data augmentation", after Howard 2013, arXiv 1312.5402.

    Args:
        prob: of each change, 0 to 1.
        brightness: largest share of white that is added or taken away.
        contrast: largest relative change of the distance to the image's mean.
        saturation: largest relative change of saturation; not for grey.
        hue: largest turn of the hue, in degrees; not for grey.
        image_format: "BGR", "RGB" or "L".
    """

    def __init__(
        self, prob: float, *, brightness: float, contrast: float, saturation: float, hue: float, image_format: str
    ):
        super().__init__()
        self.prob = prob
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.image_format = image_format

    def get_transform(self, image: np.ndarray) -> T.Transform:
        drawn = [self._drawn(most) for most in (self.brightness, self.contrast, self.saturation, self.hue)]
        if not any(drawn):
            return T.NoOpTransform()
        brightness, contrast, saturation, hue = drawn
        return T.ColorTransform(
            partial(
                changed,
                brightness=brightness,
                contrast=1 + contrast,
                saturation=1 + saturation,
                hue=hue,
                image_format=self.image_format,
            )
        )

    def _drawn(self, most: float) -> float:
        """Between -most and most, or 0 where the change is not made; the same number of draws in both cases."""
        made, amount = self._rand_range() < self.prob, float(self._rand_range(-most, most))
        return amount if made else 0.0


def changed(
    image: np.ndarray,
    *,
    brightness: float = 0.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
    image_format: str = "BGR",
) -> np.ndarray:
    """The image after brightness, contrast, and of colour images saturation and hue.

    Args:
        image: (H, W, C) uint8.
        brightness: share of white (255) to add; may be negative.
        contrast: factor of the distance to the mean of all values; 1 changes nothing.
        saturation: factor of saturation (of HSV); 1 changes nothing.
        hue: degrees to turn the hue.
        image_format: order of the channels: "BGR", "RGB", or "L" for one.

    Returns:
        (H, W, C) uint8
    """
    values = image.astype(np.float32) + np.float32(255 * brightness)
    if contrast != 1:
        mean = values.mean()
        values = mean + (values - mean) * np.float32(contrast)
    values = values.clip(0, 255)
    if image_format in COLOUR_ORDERS and (saturation != 1 or hue):
        there, back = COLOUR_ORDERS[image_format]
        hsv = cv2.cvtColor(values / 255, there)
        hsv[..., 0] = (hsv[..., 0] + hue) % 360
        hsv[..., 1] = (hsv[..., 1] * saturation).clip(0, 1)
        values = np.asarray(cv2.cvtColor(hsv, back), dtype=np.float32) * 255
    return np.rint(values).clip(0, 255).astype(np.uint8)
