"""What any network's images are padded with, and where, by hand."""

import torch
from torch import nn

from rcnnkit.modeling.backbones import FeatureBackbone


class MeansOfSquares(nn.Module):
    """One map of stride 2: the mean of each 2 × 2 pixels."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [nn.functional.avg_pool2d(x, 2)]


class OneMore(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def test_images_are_padded_on_the_right_and_at_the_bottom():
    """A map's first cell lies over the image's first pixels, so that boxes need no shift."""
    # 3 × 5 pixels of 1 in 4 × 6: squares on the right and bottom edge hold two pixels of the image, the corner one
    maps = FeatureBackbone(MeansOfSquares(), {2: 1})(torch.ones(1, 1, 3, 5))
    assert maps["res1"][0, 0].tolist() == [[1.0, 1.0, 0.5], [0.5, 0.5, 0.25]]


def test_the_padding_is_0_in_the_statistics_of_the_weights():
    # as above with pixels of 1 + 1; padded before, the margin would be 1 and the corner (2 + 3 × 1) / 4
    maps = FeatureBackbone(MeansOfSquares(), {2: 1}, statistics=OneMore())(torch.ones(1, 1, 3, 5))
    assert maps["res1"][0, 0].tolist() == [[2.0, 2.0, 1.0], [1.0, 1.0, 0.5]]


def test_images_of_the_right_size_stay():
    maps = FeatureBackbone(MeansOfSquares(), {2: 1})(torch.ones(1, 1, 2, 4))
    assert maps["res1"][0, 0].tolist() == [[1.0, 1.0]]
