"""Copy-paste on drawn cases: which pixels, masks, boxes and visibilities come out."""

from collections import Counter

import numpy as np
import pytest
import torch

from rcnnkit.data.augmentation.copy_paste import CopyPaste, occluded, random_view
from rcnnkit.data.augmentation.labelled_image import LeastLeft
from tests.rcnnkit.data.augmentation.drawn_images import Drawn, boxes_of, labelled, points_of, rectangle

SIZE = (8, 10)
ANY = LeastLeft(share=0.0, pixels=1)


def paste(target, source, *, seed=0, prob=1.0, max_objects=100, sigma=0.0, least=ANY):
    policy = CopyPaste(prob, max_objects=max_objects, blend_sigma=sigma, least=least)
    return policy(target, lambda: source, np.random.default_rng(seed))


def test_pixels_masks_boxes_and_keypoints():
    below = Drawn((2, 1, 6, 5), points=[(2.5, 1.5, 2), (5.5, 4.5, 2), (3.5, 3.5, 1)], category=3)
    target = labelled(SIZE, 10, below, points=3)
    above = Drawn((1, 3, 9, 8), points=[(1.5, 3.5, 1), (8.5, 7.5, 2)], category=4)
    result, lost = paste(target, labelled(SIZE, 200, above, points=3))
    assert lost == 0
    expected = np.full((*SIZE, 3), 10, dtype=np.uint8)
    expected[3:8, 1:9] = 200
    assert np.array_equal(result.image, expected)
    # of the object below, y from 3 to 5 is covered, and the second keypoint with it
    assert boxes_of(result) == [[2, 1, 6, 3], [1, 3, 9, 8]]
    assert result.instances.gt_classes.tolist() == [3, 4]
    assert torch.equal(
        result.instances.gt_masks.tensor,
        torch.stack([rectangle(SIZE, (2, 1, 6, 3)), rectangle(SIZE, (1, 3, 9, 8))]),
    )
    assert points_of(result) == [
        [[2.5, 1.5, 2], [5.5, 4.5, 1], [3.5, 3.5, 1]],
        [[1.5, 3.5, 1], [8.5, 7.5, 2], [0, 0, 0]],
    ]
    assert result.instances.gt_has_keypoints.tolist() == [True, True]
    assert (target.image == 10).all() and boxes_of(target) == [[2, 1, 6, 5]] and points_of(target)[0][1][2] == 2


def test_a_bite_at_the_side_leaves_the_box():
    target = labelled(SIZE, 10, Drawn((2, 1, 6, 5)))
    result, _ = paste(target, labelled(SIZE, 200, Drawn((5, 2, 8, 4))))
    assert boxes_of(result)[0] == [2, 1, 6, 5]
    assert int(result.instances.gt_masks.tensor[0].sum()) == 16 - 2


def test_too_little_left_is_dropped():
    # 16 pixels, 12 of them covered
    target, source = labelled(SIZE, 10, Drawn((2, 1, 6, 5))), labelled(SIZE, 200, Drawn((3, 1, 8, 5)))
    for least, stays in ((LeastLeft(0.25, 4), True), (LeastLeft(0.26, 1), False), (LeastLeft(0.0, 5), False)):
        result, lost = paste(target, source, least=least)
        assert lost == (not stays) and len(result.instances) == 1 + stays
        assert boxes_of(result)[0] == ([2, 1, 3, 5] if stays else [3, 1, 8, 5])
        # what is still seen of it is no background
        assert result.ignored is None if stays else result.ignored.tensor.tolist() == [[2, 1, 3, 5]]


def test_what_is_covered_entirely_leaves_nothing_to_ignore():
    target = labelled(SIZE, 10, Drawn((2, 1, 6, 5)), ignored=[(0, 0, 2, 2)])
    result, lost = paste(target, labelled(SIZE, 200, Drawn((2, 1, 6, 5))))
    assert lost == 1 and result.ignored.tensor.tolist() == [[0, 0, 2, 2]]


def test_a_keypoint_beside_the_mask_was_not_pasted():
    """Two pixels from the mask, as on an outline, it is seen; farther its pixel is the target's."""
    source = labelled(SIZE, 200, Drawn((1, 1, 4, 4), points=[(5.5, 2.5, 2), (6.5, 2.5, 2), (2.5, 2.5, 2)]), points=3)
    result, _ = paste(labelled(SIZE, 10, points=3), source)
    assert points_of(result) == [[[5.5, 2.5, 2], [6.5, 2.5, 1], [2.5, 2.5, 2]]]


def test_a_small_object_that_nothing_covers_stays():
    target = labelled(SIZE, 10, Drawn((0, 0, 1, 1)), Drawn((9, 0, 10, 1), has_mask=False))
    result, lost = paste(target, labelled(SIZE, 200, Drawn((3, 2, 8, 8))), least=LeastLeft(0.5, 20))
    assert lost == 0 and len(result.instances) == 3


def test_objects_with_a_box_only_keep_it_until_nearly_all_of_it_is_covered():
    boxes = [(0, 0, 5, 4), (4, 4, 8, 8), (8, 0, 10, 2)]
    target = labelled(SIZE, 10, *(Drawn(box, has_mask=False) for box in boxes))
    # of the first 20 pixels 10 stay, of the second 16 none, of the third all
    result, lost = paste(target, labelled(SIZE, 200, Drawn((0, 2, 8, 8))), least=LeastLeft(0.5, 1))
    assert lost == 1
    assert boxes_of(result) == [[0, 0, 5, 4], [8, 0, 10, 2], [0, 2, 8, 8]]
    assert result.instances.gt_has_mask.tolist() == [False, False, True]
    assert not result.instances.gt_masks.tensor[:2].any()


@pytest.mark.parametrize("box, covered", [((0, 0, 2.5, 1), (2, 0, 3, 1)), ((0, 0, 1, 2.5), (0, 2, 1, 3))])
def test_a_box_has_the_pixels_that_it_covers_in_part(box, covered):
    """Two and a half pixels are three; of these two are left."""
    given = labelled(SIZE, 0, Drawn((0, 0, 1, 1), has_mask=False)).instances
    given.gt_boxes.tensor[0] = torch.tensor(box)
    for share, stays in ((0.66, 1), (0.67, 0)):
        assert len(occluded(given, rectangle(SIZE, covered), LeastLeft(share, 1))[0]) == stays


def test_all_is_covered():
    target = labelled(SIZE, 10, Drawn((2, 1, 6, 5)), Drawn((1, 1, 3, 3), has_mask=False), ignored=[(0, 0, 2, 2)])
    result, lost = paste(target, labelled(SIZE, 200, Drawn((0, 0, 10, 8))))
    assert lost == 2 and boxes_of(result) == [[0, 0, 10, 8]]
    assert (result.image == 200).all()
    assert result.ignored.tensor.tolist() == [[0, 0, 2, 2]]


def test_an_image_without_objects_gets_some_and_no_ignored_region():
    source = labelled(SIZE, 200, Drawn((3, 2, 8, 8), points=[(4, 4, 2)]), points=1, ignored=[(0, 0, 5, 5)])
    result, lost = paste(labelled(SIZE, 10, points=1), source)
    assert lost == 0 and boxes_of(result) == [[3, 2, 8, 8]] and points_of(result) == [[[4, 4, 2]]]
    assert result.ignored is None


@pytest.mark.parametrize("objects", [(), (Drawn((3, 2, 8, 8), has_mask=False),)])
def test_a_source_without_masks_changes_nothing(objects):
    target = labelled(SIZE, 10, Drawn((2, 1, 6, 5)))
    result, lost = paste(target, labelled(SIZE, 200, *objects))
    assert result is target and lost == 0


def test_objects_without_a_mask_are_not_pasted():
    source = labelled(SIZE, 200, Drawn((3, 2, 8, 8), has_mask=False), Drawn((0, 0, 2, 2)))
    for seed in range(10):
        assert boxes_of(paste(labelled(SIZE, 10), source, seed=seed)[0]) == [[0, 0, 2, 2]]


def test_never_and_as_often_as_asked():
    target, source = labelled(SIZE, 10), labelled(SIZE, 200, Drawn((3, 2, 8, 8)))
    policy = CopyPaste(0.3, max_objects=1, blend_sigma=0, least=ANY)
    rng = np.random.default_rng(0)
    made = sum(policy(target, lambda: source, rng)[0] is not target for _ in range(400))
    assert 90 < made < 150  # 120 ± 3.3 standard deviations
    assert paste(target, source, prob=0.0)[0] is target


def test_random_subsets():
    boxes = [(0, 0, 2, 2), (3, 0, 5, 2), (6, 0, 8, 2)]
    source = labelled(SIZE, 200, *map(Drawn, boxes))
    found = Counter(tuple(map(tuple, boxes_of(paste(labelled(SIZE, 10), source, seed=s)[0]))) for s in range(300))
    assert len(found) == 7, "each subset but the empty one, in the order of the source"
    sizes = Counter(len(pasted) for pasted in found.elements())
    assert all(70 < sizes[count] < 130 for count in (1, 2, 3)), sizes
    few = {len(paste(labelled(SIZE, 10), source, seed=s, max_objects=2)[0].instances) for s in range(50)}
    assert few == {1, 2}


def test_only_chosen_pixels_are_pasted():
    source = labelled(SIZE, 200, Drawn((0, 0, 2, 2)), Drawn((6, 0, 8, 2)))
    for seed in range(10):
        result, _ = paste(labelled(SIZE, 10), source, seed=seed, max_objects=1)
        (x0, y0, x1, y1) = map(int, boxes_of(result)[0])
        assert np.array_equal(result.image[:, :, 0] == 200, rectangle(SIZE, (x0, y0, x1, y1)).numpy())


def test_a_soft_edge():
    # one row wide enough that the other end does not matter: the Gaussian of σ = 1 has 0.3989 in the middle, so that
    # the first pixel inside gets 0.5 + 0.1995 of the source and the first one outside the rest
    target, source = labelled((1, 40), 0), labelled((1, 40), 200, Drawn((20, 0, 40, 1)))
    result, _ = paste(target, source, sigma=1.0)
    row = result.image[0, :, 0].tolist()
    assert (row[19], row[20]) == (60, 140)
    assert row[:15] == [0] * 15 and row[25:] == [200] * 15, "at the image's edge nothing fades"
    assert row == sorted(row)
    assert torch.equal(result.instances.gt_masks.tensor[0], rectangle((1, 40), (20, 0, 40, 1))), "labels stay"


def test_a_smaller_source_lies_within_and_a_larger_one_is_a_window():
    small = labelled((3, 4), 200, Drawn((1, 1, 3, 2), points=[(1.5, 1.5, 2)]), points=1)
    large = labelled((20, 30), 200, Drawn((0, 0, 30, 20)), points=1)
    corners = set()
    for seed in range(60):
        result, _ = paste(labelled(SIZE, 10, points=1), small, seed=seed)
        ((x0, y0, x1, y1),) = boxes_of(result)
        corners.add((x0, y0))
        assert (x1 - x0, y1 - y0) == (2, 1) and points_of(result) == [[[x0 + 0.5, y0 + 0.5, 2]]]
        assert np.array_equal(
            result.image[:, :, 0] == 200, rectangle(SIZE, (int(x0), int(y0), int(x1), int(y1))).numpy()
        )
        whole, _ = paste(labelled(SIZE, 10, points=1), large, seed=seed)
        assert (whole.image == 200).all() and boxes_of(whole) == [[0, 0, 10, 8]]
    assert {x for x, _ in corners} == set(range(1, 8)) and {y for _, y in corners} == set(range(1, 7))


def test_objects_of_which_the_window_leaves_too_little_are_not_pasted():
    source = labelled((8, 20), 200, Drawn((0, 0, 20, 1)))  # half of it fits
    target = labelled(SIZE, 10)
    assert len(paste(target, source, least=LeastLeft(0.5, 1))[0].instances) == 1
    assert paste(target, source, least=LeastLeft(0.51, 1))[0] is target


def test_views_of_equal_size_do_not_move():
    for seed in range(5):
        view = random_view(SIZE, SIZE, np.random.default_rng(seed))
        assert view.offset == (0, 0) and view.window == (0, 0, 10, 8)


def test_views_of_images_wider_but_lower():
    seen = {random_view((4, 12), SIZE, np.random.default_rng(seed)).offset for seed in range(100)}
    assert seen == {(x, y) for x in (-2, -1, 0) for y in range(5)}
    view = next(
        view
        for view in (random_view((4, 12), SIZE, np.random.default_rng(seed)) for seed in range(100))
        if view.offset == (-1, 3)
    )
    assert view.window == (0, 3, 10, 7)


def test_keypoints_on_the_far_edge_belong_to_the_last_pixel():
    given = labelled(SIZE, 0, Drawn((2, 2, 10, 8), points=[(10, 8, 2), (0, 0, 0)]), points=2).instances
    left, _ = occluded(given, rectangle(SIZE, (9, 7, 10, 8)), ANY)
    assert left.gt_keypoints.tensor.tolist() == [[[10, 8, 1], [0, 0, 0]]]


def test_one_seed_one_result():
    source = labelled((20, 30), 200, *(Drawn((x, x, x + 5, x + 5)) for x in range(0, 15, 3)))
    one, same, other = (paste(labelled(SIZE, 10), source, seed=seed, sigma=1.0)[0] for seed in (1, 1, 2))
    assert np.array_equal(one.image, same.image) and boxes_of(one) == boxes_of(same)
    assert not np.array_equal(one.image, other.image)
