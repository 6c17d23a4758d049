"""Large-scale jitter in a frame that is no square."""

import numpy as np
import pytest

from detectron2.data import transforms as T
from rcnnkit.data.augmentation.scale_jitter import large_scale_jitter


@pytest.mark.parametrize(
    "factor, size, expected",
    [
        # 40×60 (height × width): 30 / 40 is the smaller ratio, the image becomes 30×45
        (1.0, (30, 100), (30, 45)),
        # 60×90, of which the frame keeps 30 rows and all columns
        (2.0, (30, 100), (30, 90)),
        # 30 / 60: 20×30, and twice as much, cut to 30 columns
        (1.0, (100, 30), (20, 30)),
        (2.0, (100, 30), (40, 30)),
        # smaller than the frame it stays so
        (0.5, (80, 120), (40, 60)),
    ],
)
def test_height_and_width_of_the_frame(factor, size, expected):
    seen = T.AugInput(np.zeros((40, 60, 3), dtype=np.uint8))
    T.AugmentationList(large_scale_jitter((factor, factor), size))(seen)
    assert seen.image.shape[:2] == expected


def test_factors_are_drawn_between_the_two():
    np.random.seed(0)  # noqa: NPY002 — Detectron2's augmentations draw from it
    heights = []
    for _ in range(60):
        seen = T.AugInput(np.zeros((40, 60, 3), dtype=np.uint8))
        T.AugmentationList(large_scale_jitter((0.5, 1.5), (200, 300)))(seen)
        heights.append(seen.image.shape[0])
    # a frame of five times the image's sides, so that 1.5 is cut to it
    assert 100 <= min(heights) < 110 and max(heights) == 200
