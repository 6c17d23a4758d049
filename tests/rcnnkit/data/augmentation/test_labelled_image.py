"""What a window leaves of boxes, masks and keypoints, on drawn cases."""

import pytest
import torch

from rcnnkit.data.augmentation.labelled_image import LeastLeft, View
from tests.rcnnkit.data.augmentation.drawn_images import Drawn, boxes_of, labelled, points_of, rectangle

ANY = LeastLeft(share=0.0, pixels=1)


def seen(image, view, least=ANY):
    instances, keep, remains = view.instances(image.instances, least)
    return type(image)(image.image, instances, remains), keep.tolist()


@pytest.mark.parametrize(
    "left, before, stays",
    [(100, 100, True), (5, 5, True), (0, 5, False), (10, 100, True), (9, 100, False), (9, 20, False), (10, 20, True)],
)
def test_least(left, before, stays):
    least = LeastLeft(share=0.1, pixels=10)
    assert least.keeps(torch.tensor([left]), torch.tensor([before])).tolist() == [stays]


def test_a_shift_moves_everything():
    image = labelled((6, 8), 0, Drawn((1, 2, 4, 5), points=[(1.5, 2.5, 2), (3.5, 4.5, 1)]), points=3)
    moved, keep = seen(image, View((3, 1), (3, 1, 11, 7), (10, 12)))
    assert keep == [True]
    assert moved.instances.image_size == (10, 12)
    assert boxes_of(moved) == [[4, 3, 7, 6]]
    assert torch.equal(moved.instances.gt_masks.tensor[0], rectangle((10, 12), (4, 3, 7, 6)))
    assert points_of(moved) == [[[4.5, 3.5, 2], [6.5, 5.5, 1], [0, 0, 0]]]


def test_a_cut_mask_gives_the_box_and_a_box_alone_is_cut():
    # the frame shows x 3 to 8, y 0 to 6 of the image; (x, y) → (x - 3, y)
    both = [Drawn((1, 2, 5, 4), points=[(1.5, 2.5, 2), (4.5, 3.5, 2)]), Drawn((2, 1, 6, 3), has_mask=False)]
    image = labelled((6, 8), 0, *both, points=2)
    image.instances.gt_masks.tensor[0, 2, 3:5] = False  # of what is shown, the lower row is left
    cut, _ = seen(image, View((-3, 0), (0, 0, 5, 6), (6, 5)))
    assert boxes_of(cut) == [[0, 3, 2, 4], [0, 1, 3, 3]]
    assert torch.equal(cut.instances.gt_masks.tensor[0], rectangle((6, 5), (0, 3, 2, 4)))
    assert cut.instances.gt_has_mask.tolist() == [True, False]
    assert points_of(cut)[0] == [[0, 0, 0], [1.5, 3.5, 2]]
    assert cut.instances.gt_has_keypoints.tolist() == [True, False]


def test_a_box_that_is_wider_than_its_whole_mask_stays():
    image = labelled((6, 8), 0, Drawn((1, 1, 5, 5)))
    image.instances.gt_masks.tensor[0] = rectangle((6, 8), (2, 2, 4, 4))
    moved, _ = seen(image, View((0, 0), (0, 0, 8, 6), (6, 8)))
    assert boxes_of(moved) == [[1, 1, 5, 5]]


def test_keypoints_may_all_be_lost_while_the_object_stays():
    image = labelled((4, 8), 0, Drawn((0, 0, 8, 4), points=[(1, 1, 2)]), points=1)
    cut, keep = seen(image, View((-4, 0), (0, 0, 4, 4), (4, 4)))
    assert keep == [True] and points_of(cut) == [[[0, 0, 0]]]
    assert cut.instances.gt_has_keypoints.tolist() == [False]


def test_keypoints_on_the_edges_of_the_window_are_shown_and_those_beyond_are_not():
    """The window from (2, 1) to (6, 4); an edge belongs to the image, as Detectron2 has it."""
    points = [(2, 1, 2), (6, 4, 1), (6.5, 2, 2), (1.5, 2, 2), (4, 4.5, 2), (4, 0.5, 2)]
    image = labelled((6, 8), 0, Drawn((0, 0, 8, 6), points=points), points=6)
    cut, _ = seen(image, View((0, 0), (2, 1, 6, 4), (6, 8)))
    assert points_of(cut) == [[[2, 1, 2], [6, 4, 1], *[[0, 0, 0]] * 4]]


def test_too_little_is_dropped_by_mask_or_by_box():
    # x from 9 on is shown: of masks and boxes 10 wide one column of ten, of the last one two
    objects = [Drawn((0, 0, 10, 4)), Drawn((0, 4, 10, 8), has_mask=False), Drawn((1, 8, 11, 12))]
    image = labelled((12, 12), 0, *objects)
    view = View((-9, 0), (0, 0, 3, 12), (12, 3))
    assert seen(image, view, LeastLeft(0.11, 1))[1] == [False, False, True]
    assert seen(image, view, LeastLeft(0.1, 5))[1] == [False, False, True]
    assert seen(image, view, LeastLeft(0.1, 4))[1] == [True, True, True]
    assert seen(image, view, LeastLeft(0.21, 1))[1] == [False, False, False]


@pytest.mark.parametrize("masks, points", [(True, 2), (False, 2), (True, 0), (False, 0)])
def test_no_objects(masks, points):
    image = labelled((6, 8), 0, masks=masks, points=points)
    moved, keep = seen(image, View((1, 1), (1, 1, 9, 7), (10, 12)))
    assert keep == [] and len(moved.instances) == 0
    assert moved.instances.has("gt_masks") is masks and moved.instances.has("gt_keypoints") is bool(points)


def test_a_window_without_pixels_shows_nothing():
    image = labelled((6, 8), 0, Drawn((0, 0, 8, 6)), Drawn((0, 0, 8, 6), has_mask=False))
    assert seen(image, View((0, 0), (0, 0, 0, 6), (6, 8)))[1] == [False, False]


def test_what_is_given_is_not_changed():
    image = labelled((6, 8), 0, Drawn((1, 2, 5, 4), points=[(1.5, 2.5, 2)]), points=1)
    seen(image, View((-3, 0), (0, 0, 5, 6), (6, 5)))
    assert boxes_of(image) == [[1, 2, 5, 4]] and points_of(image) == [[[1.5, 2.5, 2]]]
    assert torch.equal(image.instances.gt_masks.tensor[0], rectangle((6, 8), (1, 2, 5, 4)))


def test_what_is_still_seen_of_objects_that_do_not_stay():
    # of 16 pixels 4 are shown, of the second none, of the box alone 2 of 8
    objects = [Drawn((0, 0, 4, 4)), Drawn((6, 0, 8, 4)), Drawn((2, 0, 6, 2), has_mask=False)]
    cut, keep = seen(labelled((4, 8), 0, *objects), View((0, 0), (0, 0, 3, 1), (4, 8)), LeastLeft(0.5, 1))
    assert keep == [False, False, False]
    assert cut.ignored.tensor.tolist() == [[0, 0, 3, 1], [2, 0, 3, 1]]
