"""Mosaics of drawn images: which image's pixels and labels lie where."""

import numpy as np
import pytest
import torch

from rcnnkit.data.augmentation.labelled_image import LeastLeft, View
from rcnnkit.data.augmentation.mosaic import Mosaic, joined, random_part
from tests.rcnnkit.data.augmentation.drawn_images import Drawn, boxes_of, labelled, points_of, rectangle

ANY = LeastLeft(share=0.0, pixels=1)
SIZE = (8, 10)
# around (4, 3): upper left, upper right, lower left, lower right
PARTS = [(0, 0, 4, 3), (4, 0, 10, 3), (0, 3, 4, 8), (4, 3, 10, 8)]


def mosaic(images, *, seed=0, prob=1.0, center=(0.5, 0.5), fill=7.0, least=ANY):
    others = iter(images[1:])
    return Mosaic(prob, center=center, fill=fill, least=least)(
        images[0], lambda: next(others), np.random.default_rng(seed)
    )


def test_four_images_with_all_their_labels():
    images = [
        # moved by (-2, -1), and cut at (4, 3): 3 to 5 of x, 2 to 4 of y stay
        labelled(SIZE, 10, Drawn((3, 2, 8, 6), points=[(3.5, 2.5, 2), (7, 5, 2)], category=1), points=2),
        # not moved; the part begins at x = 4
        labelled(SIZE, 20, Drawn((2, 0, 8, 2), has_mask=False, category=2), ignored=[(0, 0, 6, 8)], points=2),
        labelled(SIZE, 30, points=2, ignored=[(8, 0, 10, 2)]),
        # smaller than its part; at the centre
        labelled((2, 3), 40, Drawn((1, 0, 3, 2), points=[(2, 1, 1)], category=3), points=2),
    ]
    views = [
        View((-2, -1), PARTS[0], SIZE),
        View((0, 0), PARTS[1], SIZE),
        View((0, 0), PARTS[2], SIZE),
        View((4, 3), (4, 3, 7, 5), SIZE),
    ]
    result, lost = joined(images, views, fill=7, least=ANY)
    expected = np.full(SIZE, 7)
    expected[:3, :4], expected[:3, 4:], expected[3:, :4], expected[3:5, 4:7] = 10, 20, 30, 40
    assert np.array_equal(result.image[:, :, 0], expected)
    assert lost == 0
    assert boxes_of(result) == [[1, 1, 4, 3], [4, 0, 8, 2], [5, 3, 7, 5]]
    assert result.instances.gt_classes.tolist() == [1, 2, 3]
    assert result.instances.gt_has_mask.tolist() == [True, False, True]
    assert torch.equal(
        result.instances.gt_masks.tensor,
        torch.stack([rectangle(SIZE, (1, 1, 4, 3)), rectangle(SIZE), rectangle(SIZE, (5, 3, 7, 5))]),
    )
    assert points_of(result) == [[[1.5, 1.5, 2], [0, 0, 0]], [[0, 0, 0]] * 2, [[6, 4, 1], [0, 0, 0]]]
    assert result.ignored.tensor.tolist() == [[4, 0, 6, 3]], "the other region is not shown"


def test_objects_of_which_too_little_is_shown_are_dropped_and_counted():
    # 20 of 80 pixels, and of 8 none; the third has only a box, of which 2 of 8 are shown
    objects = [Drawn((0, 0, 10, 8)), Drawn((8, 0, 10, 4)), Drawn((3, 0, 7, 2), has_mask=False)]
    image, empty = labelled(SIZE, 10, *objects), labelled(SIZE, 20)
    views = [View((0, 0), (0, 0, 4, 5), SIZE), *(View((0, 0), part, SIZE) for part in PARTS[1:])]
    assert joined([image, empty, empty, empty], views, fill=0, least=LeastLeft(0.25, 3))[1] == 2
    result, lost = joined([image, empty, empty, empty], views, fill=0, least=LeastLeft(0.25, 2))
    assert lost == 1 and boxes_of(result) == [[0, 0, 4, 5], [3, 0, 4, 2]] and result.ignored is None
    result, lost = joined([image, empty, empty, empty], views, fill=0, least=LeastLeft(0.26, 1))
    assert lost == 3 and result.ignored.tensor.tolist() == [[0, 0, 4, 5], [3, 0, 4, 2]]


@pytest.mark.parametrize("part", range(4))
def test_larger_images_fill_their_part_with_any_window(part):
    # 2 columns and 1 row more than the part has: 3 × 2 windows
    x0, y0, x1, y1 = PARTS[part]
    image = (y1 - y0 + 1, x1 - x0 + 2)
    views = [random_part(image, part, (4, 3), SIZE, np.random.default_rng(seed)) for seed in range(80)]
    assert {view.window for view in views} == {PARTS[part]}
    assert {view.offset for view in views} == {(x0 - x, y0 - y) for x in range(3) for y in range(2)}


@pytest.mark.parametrize("part, window", [(0, (2, 2, 4, 3)), (1, (4, 2, 6, 3)), (2, (2, 3, 4, 4)), (3, (4, 3, 6, 4))])
def test_smaller_images_lie_at_the_centre(part, window):
    view = random_part((1, 2), part, (4, 3), SIZE, np.random.default_rng(0))
    assert view.window == window and view.offset == window[:2]


def test_images_of_any_size_around_any_centre():
    sizes = [(40, 60), (10, 100), (90, 9), (3, 3)]
    centres = set()
    for seed in range(40):
        images = [
            labelled(size, 10 * (i + 1), Drawn((0, 0, size[1], size[0]), category=i)) for i, size in enumerate(sizes)
        ]
        result, lost = mosaic(images, seed=seed, center=(0.25, 0.75))
        assert result.image.shape[:2] == (40, 60) == result.instances.image_size
        assert lost == 0 and sorted(result.instances.gt_classes.tolist()) == [0, 1, 2, 3]
        covered = result.instances.gt_masks.tensor
        assert (covered.sum(dim=0) <= 1).all(), "no two share a pixel"
        for mask, box, category in zip(covered, boxes_of(result), result.instances.gt_classes.tolist(), strict=True):
            x0, y0, x1, y1 = map(int, box)
            assert torch.equal(mask, rectangle((40, 60), (x0, y0, x1, y1)))
            assert (result.image[mask.numpy()] == 10 * (category + 1)).all()
        assert (result.image[~covered.any(dim=0).numpy()] == 7).all()
        x, y = (float(edge) for edge in result.instances.gt_boxes.tensor[0, 2:])  # the upper left image ends there
        centres.add((x, y))
        assert 15 <= x <= 45 and 10 <= y <= 30
    assert len(centres) > 35


def test_every_image_comes_to_every_part():
    images = [labelled(SIZE, value) for value in (10, 20, 30, 40)]
    corners = [mosaic(images, seed=seed)[0].image[[0, 0, -1, -1], [0, -1, 0, -1], 0] for seed in range(60)]
    assert all(sorted(found.tolist()) == [10, 20, 30, 40] for found in corners)
    assert all({int(found[corner]) for found in corners} == {10, 20, 30, 40} for corner in range(4))


def test_boxes_without_masks_and_no_ignored_regions():
    images = [labelled(SIZE, value, Drawn((0, 0, 10, 8)), masks=False) for value in (10, 20, 30, 40)]
    result, _ = mosaic(images)
    assert boxes_of(result) == [[0, 0, 5, 4], [5, 0, 10, 4], [0, 4, 5, 8], [5, 4, 10, 8]]
    assert not result.instances.has("gt_masks") and result.ignored is None


def test_images_without_objects():
    result, lost = mosaic([labelled(SIZE, value, points=2) for value in (10, 20, 30, 40)])
    assert len(result.instances) == 0 and lost == 0
    assert result.instances.gt_keypoints.tensor.shape == (0, 2, 3)


def test_an_image_of_one_pixel():
    result, _ = mosaic([labelled((1, 1), value, Drawn((0, 0, 1, 1))) for value in (10, 20, 30, 40)])
    assert result.image.shape == (1, 1, 3) and len(result.instances) == 1


def test_never_and_one_seed_one_result():
    images = [labelled(SIZE, value, Drawn((1, 1, 9, 7))) for value in (10, 20, 30, 40)]
    assert mosaic(images, prob=0.0) == (images[0], 0)
    one, same, other = (mosaic(images, seed=seed, center=(0.2, 0.8))[0] for seed in (1, 1, 2))
    assert np.array_equal(one.image, same.image) and boxes_of(one) == boxes_of(same)
    assert not np.array_equal(one.image, other.image)
