"""The operations of the random policy, one by one, and what is drawn."""

import numpy as np
import pytest

from detectron2.data import transforms as T
from rcnnkit.config_augmentation import POLICY_OPERATIONS
from rcnnkit.data.augmentation.random_policy import COLOUR, OPERATIONS, RandomPolicy, operation


def test_the_config_knows_the_same_operations():
    assert sorted(POLICY_OPERATIONS) == sorted(OPERATIONS)


@pytest.mark.parametrize(
    "name, share, expected",
    [
        ("solarize", 0.5, [10, 55, 0]),  # from 128 on: 255 - value
        ("posterize", 1.0, [0, 192, 240]),  # the upper 4 bits
        ("brightness", 1.0, [19, 255, 255]),  # times 1.9
        ("brightness", -1.0, [1, 20, 25]),  # times 0.1
        ("autocontrast", 1.0, [10, 200, 255]),  # each channel has one value: nothing to stretch
    ],
)
def test_colours(name, share, expected):
    image = np.array([[[10, 200, 255]]], dtype=np.uint8)
    result = operation(name, share, (1, 1), "RGB").apply_image(image)
    assert result.tolist() == [[expected]]


def test_colour_weighs_the_channels_by_their_order():
    red = np.zeros((1, 1, 3), dtype=np.uint8)
    red[..., 0] = 255
    as_rgb = operation("color", -1.0, (1, 1), "RGB").apply_image(red)
    as_bgr = operation("color", -1.0, (1, 1), "BGR").apply_image(red[..., ::-1].copy())
    assert np.array_equal(as_rgb, as_bgr[..., ::-1])
    assert abs(int(as_rgb[0, 0, 1]) - 0.9 * 76) <= 1  # the luma of red is 0.299 · 255 = 76


@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_keep_shape_type_and_what_is_given(name, channels):
    image = np.random.default_rng(0).integers(0, 255, (5, 7, channels), dtype=np.uint8)
    kept = image.copy()
    result = operation(name, 0.5, (5, 7), "BGR").apply_image(image)
    assert result.shape == image.shape and result.dtype == np.uint8
    assert np.array_equal(image, kept)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("identity", [50, 10]),
        # (50, 10) is 20 above the middle: 20·sin 30° to the left of it, 20·cos 30° above
        ("rotate", [50 - 10, 30 - 20 * 0.75**0.5]),
        ("shear_x", [50 - 20 * 0.3, 10]),
        ("shear_y", [50, 10]),
        ("translate_x", [50 + 100 * 150 / 331, 10]),
        ("translate_y", [50, 10 + 60 * 150 / 331]),
    ],
)
def test_points_move_with_the_pixels(name, expected):
    moved = operation(name, 1.0, (60, 100), "BGR").apply_coords(np.array([[50.0, 10.0]]))
    assert moved[0] == pytest.approx(expected)


def test_draws():
    np.random.seed(0)  # noqa: NPY002 — Detectron2's augmentations draw from it
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    policy = RandomPolicy(["translate_x", "rotate"], count=2, magnitude=5, image_format="BGR")
    seen = {tuple(np.round(one.matrix, 6).ravel()) for _ in range(60) for one in policy.get_transform(image).transforms}
    shifts = {round(matrix[2], 3) for matrix in seen if matrix[0] == 1}
    assert shifts == {round(50 * 150 / 331, 3), round(-50 * 150 / 331, 3)}
    assert len(seen) == 4  # two operations, two signs
    assert all(len(policy.get_transform(image).transforms) == 2 for _ in range(5))
    assert isinstance(policy.get_transform(image), T.TransformList)
