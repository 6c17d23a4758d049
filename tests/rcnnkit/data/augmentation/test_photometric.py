"""Colours by hand-worked values."""

import numpy as np
import pytest

from detectron2.data import transforms as T
from rcnnkit.data.augmentation.photometric import PhotometricJitter, changed

RED, GREEN, GREY = [[[200, 0, 0]]], [[[0, 200, 0]]], [[[100, 100, 100]]]


def pixels(values) -> np.ndarray:
    return np.array(values, dtype=np.uint8)


def test_brightness_adds_a_share_of_white_and_stays_in_range():
    assert changed(pixels([[[0, 100, 250]]]), brightness=0.2).tolist() == [[[51, 151, 255]]]
    assert changed(pixels([[[0, 100, 250]]]), brightness=-0.2).tolist() == [[[0, 49, 199]]]


def test_contrast_scales_the_distance_to_the_mean():
    assert changed(pixels([[[50], [150]]]), contrast=0.5, image_format="L").tolist() == [[[75], [125]]]


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_saturation_and_hue_by_the_order_of_channels(image_format):
    step = -1 if image_format == "BGR" else 1
    red, green = pixels(RED)[..., ::step].copy(), pixels(GREEN)[..., ::step].copy()
    assert np.array_equal(changed(red, hue=120, image_format=image_format), green)
    # saturation 0 of HSV keeps the value, the largest channel
    assert changed(red, saturation=0, image_format=image_format).tolist() == [[[200, 200, 200]]]
    assert changed(pixels(GREY), saturation=1.5, hue=90, image_format=image_format).tolist() == GREY


def test_nothing_or_something():
    arguments = {"brightness": 0.1, "contrast": 0.5, "saturation": 0.5, "hue": 18, "image_format": "BGR"}
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    kept = image.copy()
    assert isinstance(PhotometricJitter(0.0, **arguments).get_transform(image), T.NoOpTransform)
    transform = PhotometricJitter(1.0, **arguments).get_transform(image)
    result = transform.apply_image(image)
    assert result.shape == image.shape and result.dtype == np.uint8 and not np.array_equal(result, image)
    assert np.array_equal(image, kept)
    assert np.array_equal(transform.apply_image(image), result)
    assert transform.apply_coords(np.array([[1.0, 2.0]])).tolist() == [[1, 2]]
