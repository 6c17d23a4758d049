"""Draws for a seed are recorded from stock Detectron2 on an image of 60 × 80; geometry is worked out by hand."""

import numpy as np
import pytest

import detectron2.data.transforms as T

from .test_augmentation import IMAGE, described, seeded

PATTERN = (np.arange(60 * 80 * 3) % 251).reshape(60, 80, 3).astype(np.uint8)
BOXES = np.array([[5.0, 5, 30, 40], [40, 10, 70, 50]])


def test_flip():
    assert isinstance(seeded(T.RandomFlip(), 0)[0], T.NoOpTransform)  # draws 0.549
    assert isinstance(seeded(T.RandomFlip(), 1)[0], T.HFlipTransform)  # draws 0.417
    vertical = T.RandomFlip(prob=0.7, horizontal=False, vertical=True)
    assert isinstance(seeded(vertical, 0)[0], T.VFlipTransform)
    for both in (True, False):
        with pytest.raises(ValueError):
            T.RandomFlip(horizontal=both, vertical=both)


def test_apply_draws_first():
    assert isinstance(seeded(T.RandomApply(T.RandomFlip(0.9), 0.8))[0], T.HFlipTransform)
    assert isinstance(seeded(T.RandomApply(T.HFlipTransform(80), 0.1))[0], T.NoOpTransform)
    with pytest.raises(AssertionError):
        T.RandomApply(T.RandomFlip(), 1.5)


@pytest.mark.parametrize(
    "size, longest, expected",
    [(30, 1000, (30, 40)), (30, 20, (15, 20)), (75, 100, (75, 100)), (90, 99, (74, 99))],
)
def test_shortest_edge_shape(size, longest, expected):
    assert T.ResizeShortestEdge.get_output_shape(60, 80, size, longest) == expected


def test_shortest_edge_draws():
    assert described(seeded(T.ResizeShortestEdge((30, 90), 100))[0], "new_h", "new_w") == (74, 99)
    assert described(seeded(T.ResizeShortestEdge((30, 40, 90), 100, "choice"))[0], "new_h", "new_w") == (30, 40)
    assert isinstance(seeded(T.ResizeShortestEdge(0))[0], T.NoOpTransform)
    with pytest.raises(AssertionError, match="two values"):
        T.ResizeShortestEdge([33], 1000, "range")


def test_scale_and_choice_of_sizes():
    assert described(seeded(T.ResizeScale(0.5, 2.0, 50, 70))[0], "new_h", "new_w") == (66, 88)
    assert described(seeded(T.RandomResize([(20, 30), (40, 50)]))[0], "new_h", "new_w") == (20, 30)


@pytest.mark.parametrize(
    "kind, size, expected",
    [
        ("relative_range", (0.5, 0.6), (3, 3, 71, 46)),
        ("relative", (0.5, 0.6), (0, 12, 48, 30)),
        ("absolute", (300, 40), (0, 0, 40, 60)),
        ("absolute_range", (10, 50), (9, 3, 13, 10)),
        ("absolute_range", (10, 500), (0, 5, 57, 54)),
    ],
)
def test_crop_draws(kind, size, expected):
    assert described(seeded(T.RandomCrop(kind, size))[0], "x0", "y0", "w", "h") == expected


def test_crop_arguments():
    with pytest.raises(AssertionError, match="crop_type"):
        T.RandomCrop("half", (1, 1))
    with pytest.raises(AssertionError, match="min, max"):
        seeded(T.RandomCrop("absolute_range", (50, 10)))


def test_crop_of_mixed_labels():
    labels = (np.arange(60 * 80) // 700).reshape(60, 80).astype(np.uint8)
    free = T.RandomCrop_CategoryAreaConstraint("absolute", (20, 20), 0.6)
    assert described(seeded(free, sem_seg=labels)[0], "x0", "y0") == (3, 0)
    # no window satisfies this: the tenth is taken
    strict = T.RandomCrop_CategoryAreaConstraint("absolute", (20, 20), 0.1, 2)
    assert described(seeded(strict, sem_seg=labels)[0], "x0", "y0") == (17, 24)


def test_extent_draws():
    extent, _ = seeded(T.RandomExtent((0.5, 1.5), (0.2, 0.3)))
    assert extent.output_size == (62, 83)
    np.testing.assert_allclose(extent.src_rect, (1.49048970, 0.38533565, 85.39557002, 63.31414589))


@pytest.mark.parametrize("kind, source", [(T.RandomBrightness, 0), (T.RandomContrast, 124.48979167)])
def test_intensity_draws(kind, source):
    blend, given = seeded(kind(0.5, 1.5), image=PATTERN)
    np.testing.assert_allclose(blend.src_image, source)
    np.testing.assert_allclose((blend.src_weight, blend.dst_weight), (-0.0488135039, 1.0488135039))
    assert given.image.dtype == np.uint8


def test_saturation_is_luma():
    blend, _ = seeded(T.RandomSaturation(0.5, 1.5), image=np.full((2, 2, 3), 100, np.uint8))
    np.testing.assert_allclose(blend.src_image, np.full((2, 2, 1), 100.0))
    with pytest.raises(AssertionError):
        seeded(T.RandomSaturation(0.5, 1.5), image=np.zeros((2, 2, 1), np.uint8))


def test_lighting_draws():
    blend, _ = seeded(T.RandomLighting(25.0))
    np.testing.assert_allclose(blend.src_image, [-5.26407461, -5.66152798, -5.68230675])


def test_fixed_size_crop_pads():
    _, given = seeded(T.FixedSizeCrop((100, 50), pad_value=7), boxes=BOXES.copy())
    assert given.image.shape == (100, 50, 3)
    assert (given.image[60:] == 7).all()
    # 0.549 of the 30 spare columns, rounded: 16
    np.testing.assert_array_equal(given.boxes, BOXES - [16, 0, 16, 0])
    assert seeded(T.FixedSizeCrop((100, 50), pad=False))[1].image.shape == (60, 50, 3)


@pytest.mark.parametrize("seed, expected", [(0, (4, 10, 63, 31)), (1, (2, 14, 59, 40)), (3, (4, 4, 71, 38))])
def test_min_iou_draws(seed, expected):
    crop, _ = seeded(T.MinIoURandomCrop(), seed, boxes=BOXES.copy())
    assert described(crop, "x0", "y0", "w", "h") == expected


def test_min_iou_may_keep_the_image_and_needs_boxes():
    assert isinstance(seeded(T.MinIoURandomCrop(), 2, boxes=BOXES.copy())[0], T.NoOpTransform)
    with pytest.raises(ValueError, match="boxes"):
        seeded(T.MinIoURandomCrop())
    assert seeded(T.MinIoURandomCrop(), 0, boxes=np.zeros((0, 4)))[1].image.size > 0


def test_rotation_draws():
    rotation, given = seeded(T.RandomRotation((-30, 30)), image=PATTERN)
    assert rotation.angle == pytest.approx(2.9288102356)
    assert given.image.shape == (64, 83, 3)
    about, _ = seeded(T.RandomRotation(30, center=(0.4, 0.4)))
    assert about.center == pytest.approx((32, 24))
    assert isinstance(seeded(T.RandomRotation([360.0], sample_style="choice"))[0], T.NoOpTransform)
    chosen, _ = seeded(T.RandomRotation([45], center=[(0.4, 0.4)], sample_style="choice"))
    assert chosen.center == pytest.approx((32, 24))
    assert IMAGE.shape == (60, 80, 3)
