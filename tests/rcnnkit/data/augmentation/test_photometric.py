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


GROUND, SPOT = (90, 110, 130), (110, 140, 90)  # two colours that no clipping changes


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "hue"])
def test_each_change_is_drawn_in_both_directions_up_to_its_most(kind):
    np.random.seed(0)  # noqa: NPY002 — Detectron2's augmentations draw from it
    most = {"brightness": 0.1, "contrast": 0.5, "saturation": 0.5, "hue": 30.0}
    neutral = {"brightness": 0.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    image = pixels([[GROUND, SPOT]])
    policy = PhotometricJitter(1.0, **{name: most[name] * (name == kind) for name in most}, image_format="RGB")
    measured = [_measured(kind, policy.get_transform(image).apply_image(image)) for _ in range(60)]
    least, middle, greatest = (
        _measured(kind, changed(image, **{kind: neutral[kind] + sign * most[kind]}, image_format="RGB"))
        for sign in (-1, 0, 1)
    )
    assert least < middle < greatest
    assert least <= min(measured) < least + 0.15 * (middle - least)
    assert greatest - 0.15 * (greatest - middle) < max(measured) <= greatest
    assert 15 < sum(value < middle for value in measured) < 45


def _measured(kind: str, image: np.ndarray) -> float:
    """What the change of the kind moves, by both pixels' values, or of the first one's HSV."""
    values = image[0].astype(float)
    red, green, blue = values[0]
    return {
        "brightness": values.mean(),
        "contrast": np.abs(values - values.mean()).mean(),
        "saturation": 1 - values[0].min() / values[0].max(),
        # of a colour with the most blue and the least red: 240° and more with red, less with green
        "hue": 240 + 60 * (red - green) / (blue - min(red, green)),
    }[kind]


def test_a_probability_of_a_half_makes_each_change_half_of_the_time():
    np.random.seed(0)  # noqa: NPY002
    image = pixels([[GROUND, SPOT]])
    policy = PhotometricJitter(0.5, brightness=0.1, contrast=0, saturation=0, hue=0, image_format="RGB")
    made = sum(not np.array_equal(policy.get_transform(image).apply_image(image), image) for _ in range(200))
    assert 70 < made < 130
