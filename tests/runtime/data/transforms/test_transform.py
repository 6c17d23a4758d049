import numpy as np
import pytest

import detectron2.data.transforms as T


def coords(*rows):
    return np.array(rows, dtype=np.float64)


def test_resize_scales_coordinates_and_images():
    resize = T.ResizeTransform(2, 4, 4, 12)
    np.testing.assert_array_equal(resize.apply_coords(coords((4, 2), (1, 1))), [[12, 4], [3, 2]])
    assert resize.apply_image(np.full((2, 4, 3), 7, np.uint8)).shape == (4, 12, 3)
    assert resize.apply_image(np.full((2, 4, 1), 7, np.uint8)).shape == (4, 12, 1)
    back = resize.inverse()
    np.testing.assert_array_equal(back.apply_coords(resize.apply_coords(coords((1, 1)))), [[1, 1]])


def test_resize_of_floats_keeps_values_between_pixels():
    image = np.array([[0.0, 1.0]], dtype=np.float32)
    # centres of 4 output pixels lie at −0.25, 0.25, 0.75, 1.25 of the input; outside is clamped
    out = T.ResizeTransform(1, 2, 1, 4).apply_image(image)
    np.testing.assert_allclose(out, [[0.0, 0.25, 0.75, 1.0]])


def test_resize_of_labels_invents_none():
    labels = np.array([[0, 9]], np.uint8)
    assert set(np.unique(T.ResizeTransform(1, 2, 1, 8).apply_segmentation(labels))) == {0, 9}


def test_resize_refuses_another_size():
    with pytest.raises(AssertionError, match="2×4"):
        T.ResizeTransform(2, 4, 4, 8).apply_image(np.zeros((3, 4), np.uint8))


def test_extent():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    extent = T.ExtentTransform((1, 1, 3, 3), (2, 2))
    np.testing.assert_array_equal(extent.apply_image(image), image[1:3, 1:3])
    np.testing.assert_array_equal(extent.apply_coords(coords((1, 1), (3, 2))), [[0, 0], [2, 1]])
    labels = np.array([[0, 0, 9, 9]] * 4, np.uint8)
    widened = T.ExtentTransform((0, 0, 4, 4), (16, 16)).apply_segmentation(labels)
    assert set(np.unique(widened)) == {0, 9}


def test_rotation_by_a_right_angle():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    rotation = T.RotationTransform(2, 3, 90)
    np.testing.assert_array_equal(rotation.apply_image(image), np.rot90(image))
    # counter-clockwise: the top right corner (3, 0) becomes the top left
    np.testing.assert_allclose(rotation.apply_coords(coords((3, 0), (0, 0))), [[0, 0], [0, 3]], atol=1e-9)
    np.testing.assert_array_equal(rotation.inverse().apply_image(rotation.apply_image(image)), image)


def test_rotation_without_expansion_keeps_the_canvas():
    rotation = T.RotationTransform(4, 4, 180, expand=False, center=(1, 1))
    np.testing.assert_allclose(rotation.apply_coords(coords((0, 0))), [[2, 2]], atol=1e-9)
    assert rotation.apply_image(np.zeros((4, 4, 3), np.uint8)).shape == (4, 4, 3)
    with pytest.raises(NotImplementedError):
        rotation.inverse()


def test_colour_leaves_geometry():
    double = T.ColorTransform(lambda image: image * 2)
    assert double.apply_image(np.array([[3]]))[0, 0] == 6
    np.testing.assert_array_equal(double.apply_coords(coords((1, 2))), [[1, 2]])
    invert = T.PILColorTransform(lambda image: image.point(lambda value: 255 - value))
    assert invert.apply_image(np.zeros((2, 2, 3), np.uint8)).min() == 255
    with pytest.raises(ValueError):
        T.ColorTransform(3)


def test_rotated_boxes():
    flipped = T.HFlipTransform(10).apply_rotated_box(np.array([[2.0, 3, 4, 2, 30]]))
    np.testing.assert_allclose(flipped, [[8, 3, 4, 2, -30]])
    # a quarter turn: the width lies along y
    resized = T.ResizeTransform(10, 10, 30, 20).apply_rotated_box(np.array([[1.0, 1, 4, 2, 90]]))
    np.testing.assert_allclose(resized, [[2, 3, 12, 4, 90]])
