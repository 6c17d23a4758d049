"""Rotation, shear and shift on drawn cases: pixels, boxes, polygons, masks and points go to the same places."""

import numpy as np
import pytest

from detectron2.data import transforms as T
from rcnnkit.data.augmentation.affine import rotation, shear, shift


def picture(height=4, width=6, *, at, value=200) -> np.ndarray:
    """Black, with one pixel at (x, y)."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[at[1], at[0]] = value
    return image


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


class TestRotation:
    def test_a_quarter_turn_to_the_left_moves_the_right_edge_up(self):
        # 8×8, middle (4, 4): (x, y) → (y, 8 - x); the pixel (6, 2), centre (6.5, 2.5), to centre (2.5, 1.5)
        turned = rotation(8, 8, 90, fill=7)
        assert np.array_equal(turned.apply_image(picture(8, 8, at=(6, 2))), picture(8, 8, at=(2, 1)))
        assert turned.apply_coords(np.array([[6.5, 2.5]])) == pytest.approx(np.array([[2.5, 1.5]]))
        assert turned.apply_box(np.array([[6.0, 2.0, 7.0, 3.0]])) == pytest.approx(np.array([[2.0, 1.0, 3.0, 2.0]]))
        mask = picture(8, 8, at=(6, 2))[:, :, 0]
        assert np.array_equal(turned.apply_segmentation(mask), picture(8, 8, at=(2, 1))[:, :, 0])

    def test_a_square_box_keeps_its_size_at_45_degrees(self):
        # the circle inside it does not change; the hull of its corners would be √2 times as wide
        assert rotation(100, 100, 45).apply_box(np.array([[40.0, 40.0, 60.0, 60.0]])) == pytest.approx(
            np.array([[40.0, 40.0, 60.0, 60.0]])
        )

    def test_a_long_box_follows_the_ellipse_inside(self):
        # half axes 20 and 10 at 30°: √(20²·3/4 + 10²/4) = √325 and √(20²/4 + 10²·3/4) = √175
        (x0, y0, x1, y1) = rotation(100, 100, 30).apply_box(np.array([[30.0, 40.0, 70.0, 60.0]]))[0]
        assert (x0, x1) == pytest.approx((50 - 325**0.5, 50 + 325**0.5))
        assert (y0, y1) == pytest.approx((50 - 175**0.5, 50 + 175**0.5))

    def test_corners_that_leave_the_frame_are_cut_off_polygons(self):
        # a square of 100 turned by 45° sticks out by 50(√2 - 1) at each edge: what is left is a regular octagon
        whole = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 100.0], [0.0, 100.0]])
        (octagon,) = rotation(100, 100, 45).apply_polygons([whole])
        assert len(octagon) == 8
        assert area(octagon) == pytest.approx(2 * (2**0.5 - 1) * 100**2)
        assert octagon.min() >= 0 and octagon.max() <= 100

    def test_grey_images_keep_their_axis(self):
        assert rotation(4, 6, 10).apply_image(np.zeros((4, 6, 1), dtype=np.uint8)).shape == (4, 6, 1)


class TestShift:
    def test_pixels_and_fill(self):
        moved = shift(4, 6, 2, -1, fill=9).apply_image(picture(at=(1, 2)))
        expected = picture(at=(3, 1))
        expected[3], expected[:, :2] = 9, 9
        assert np.array_equal(moved, expected)

    def test_outside_of_a_mask_is_nothing_whatever_the_fill(self):
        mask = np.ones((4, 6), dtype=np.uint8)
        expected = np.zeros((4, 6), dtype=np.uint8)
        expected[:3, 2:] = 1
        assert np.array_equal(shift(4, 6, 2, -1, fill=9).apply_segmentation(mask), expected)

    def test_points_outside_of_the_image_are_none_though_they_come_to_lie_inside(self):
        # what has no pixel has nothing to be found at its new place
        moved = shift(4, 6, 3, 1).apply_coords(np.array([[-1.0, 1.0], [1.0, -0.5], [0.0, 0.0]]))
        assert np.isnan(moved[:2]).all() and moved[2].tolist() == [3, 1]

    def test_boxes_are_cut_at_the_frame(self):
        boxes = np.array([[0.0, 0.0, 2.0, 2.0], [3.0, 1.0, 6.0, 4.0], [5.0, 0.0, 6.0, 1.0]])
        moved = shift(4, 6, 2, 1).apply_box(boxes)
        assert moved[:2].tolist() == [[2, 1, 4, 3], [5, 2, 6, 4]]
        assert moved[2, 0] == moved[2, 2]  # outside: without area

    def test_what_left_the_frame_does_not_come_back(self):
        there_and_back = T.TransformList([shift(4, 6, 3, 0), shift(4, 6, -3, 0)])
        points = there_and_back.apply_coords(np.array([[1.0, 1.0], [5.0, 1.0]]))
        assert points[0].tolist() == [1, 1] and np.isnan(points[1]).all()
        boxes = there_and_back.apply_box(np.array([[0.0, 0.0, 4.0, 2.0], [4.0, 0.0, 6.0, 2.0]]))
        assert boxes[0].tolist() == [0, 0, 3, 2]
        assert boxes[1, 0] == boxes[1, 2]
        (left,) = there_and_back.apply_polygons([np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0]])])
        assert left.min(axis=0).tolist() == [0, 0] and left.max(axis=0).tolist() == [3, 2]
        assert there_and_back.apply_polygons([np.array([[4.0, 0.0], [6.0, 0.0], [6.0, 2.0]])]) == []

    def test_a_lost_box_has_no_area_after_a_turn(self):
        lost = T.TransformList([shift(100, 100, 90, 0), rotation(100, 100, 45)]).apply_box(
            np.array([[50.0, 40, 70, 60]])
        )
        assert lost[0, 0] == lost[0, 2] and lost[0, 1] == lost[0, 3]

    def test_none(self):
        assert shift(4, 6, 1, 1).apply_box(np.zeros((0, 4))).shape == (0, 4)
        assert shift(4, 6, 1, 1).apply_coords(np.zeros((0, 2))).shape == (0, 2)
        assert shift(4, 6, 1, 1).apply_polygons([]) == []


def test_shear_moves_x_by_the_distance_from_the_middle():
    # height 4, middle y = 2: the top edge by -2·0.5, the bottom by +1
    points = shear(4, 10, 0.5, 0).apply_coords(np.array([[5.0, 0.0], [5.0, 2.0], [5.0, 4.0]]))
    assert points.tolist() == [[4, 0], [5, 2], [6, 4]]


def test_the_points_given_are_not_changed():
    points = np.array([[1.0, 1.0], [5.0, 1.0]])
    shift(4, 6, 3, 0).apply_coords(points)
    assert points.tolist() == [[1, 1], [5, 1]]
