"""Crops that cut no object."""

import numpy as np
import pytest

from detectron2.data import transforms as T
from rcnnkit.data.augmentation.object_crop import ObjectCrop, boxes_inside, grown


@pytest.mark.parametrize(
    "boxes, expected",
    [
        ([], [10, 10, 20, 20]),
        ([[12, 12, 18, 18]], [10, 10, 20, 20]),  # whole inside
        ([[18, 12, 25.5, 14]], [10, 10, 26, 20]),  # cut at the right, to whole pixels
        ([[20, 12, 25, 14]], [10, 10, 20, 20]),  # only beside it
        ([[18, 12, 25, 14], [24, 4.5, 30, 13]], [10, 4, 30, 20]),  # the second is met once the first is in
        ([[0, 0, 40, 40]], [0, 0, 40, 40]),
    ],
)
def test_windows_grow_until_they_cut_nothing(boxes, expected):
    assert grown(np.array([10.0, 10, 20, 20]), np.array(boxes, dtype=float).reshape(-1, 4)).tolist() == expected


def test_boxes_are_those_of_which_something_is_inside():
    boxes = np.array([[-5.0, 0, 5, 5], [12, 0, 15, 5], [3, 3, 3, 9], [np.nan] * 4])
    assert boxes_inside(boxes, 10, 10).tolist() == [[0, 0, 5, 5]]


def test_each_object_is_whole_or_not_there_and_one_is():
    np.random.seed(0)  # noqa: NPY002 — Detectron2's augmentations draw from it
    boxes = np.array([[2.0, 3, 12, 13], [30, 5, 42, 25], [40, 20, 58, 38], [5, 30, 9, 34]])
    areas, sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), set()
    for _ in range(200):
        seen = T.AugInput(np.zeros((40, 60, 3), dtype=np.uint8), boxes=boxes.copy())
        ObjectCrop(1.0, (0.2, 0.6))(seen)
        height, width = seen.image.shape[:2]
        sizes.add((height, width))
        cut = seen.boxes.clip(0, [width, height, width, height])
        left = (cut[:, 2:] - cut[:, :2]).prod(axis=1)
        assert ((left == 0) | (left == areas)).all() and left.any()
    assert len(sizes) > 50


def test_images_without_objects_are_cropped_to_the_scale_and_never_where_the_probability_is_0():
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    seen = T.AugInput(image, boxes=np.zeros((0, 4)))
    ObjectCrop(1.0, (0.5, 0.5))(seen)
    assert seen.image.shape == (20, 30, 3)
    assert isinstance(ObjectCrop(0.0, (0.5, 0.5))(T.AugInput(image, boxes=np.zeros((0, 4)))), T.NoOpTransform)
