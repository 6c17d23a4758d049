"""One refining stage by hand: where details are taken from, and what the mask before adds."""

import math

import pytest
import torch

from rcnnkit.modeling.mask_heads.boundary_stages import RefiningStage

STRIDE = 2  # of the detail map, pixels
IMAGE = torch.zeros(1, dtype=torch.int64)  # a class for each box


@pytest.fixture
def stage():
    """One channel and 2 × 2 cells; what is fused passes as it is, and the logits are three times that."""
    own = RefiningStage(1, 1, 1, stride=STRIDE, side=2, num_classes=1, norm="")
    for parameter in own.parameters():
        torch.nn.init.zeros_(parameter)
    own.fuse.weight.data[0, 0, 1, 1] = 1.0
    own.logits.weight.data[:] = 3.0
    return own


def places(height: int, width: int) -> torch.Tensor:
    """(1, 1, H, W): each pixel of the detail map holds the x of its own middle, in pixels of the image."""
    return ((torch.arange(width) + 0.5) * STRIDE).expand(1, 1, height, width)


@pytest.mark.parametrize(
    ("box", "middles"),
    [
        ([6.0, 4.0, 10.0, 8.0], [7.0, 9.0]),  # cells of 2 pixels, one of the map
        ([4.0, 4.0, 12.0, 12.0], [6.0, 10.0]),  # cells of 4 pixels, two of the map, of which each cell has the mean
    ],
)
def test_details_are_those_of_the_box_in_the_image(stage, box, middles):
    stage.detail.weight.data[:] = 1.0
    # The middles of the two columns of cells. A map read with another stride has other places; one that is read
    # unaligned gives 1 pixel more, half a pixel of the map.
    x, logits = stage(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1), places(8, 10), torch.tensor([[0.0, *box]]), IMAGE)
    assert x[0, 0].tolist() == [pytest.approx(middles)] * 2
    assert logits[0].tolist() == [pytest.approx([3 * middle for middle in middles])] * 2


def test_the_mask_before_is_fused_and_refined(stage):
    stage.mask.data[:] = 2.0
    # Logits ln 3 and −ln 3 are masks of 3/4 and 1/4, from −1 to 1 they are 1/2 and −1/2, times 2 they are 1 and −1; of
    # the latter ReLU leaves 0. Three times these come on top of the logits before.
    before = torch.tensor([math.log(3), -math.log(3)]).reshape(2, 1, 1)
    rois = torch.tensor([[0.0, 4.0, 4.0, 8.0, 8.0]] * 2)
    x, logits = stage(torch.zeros(2, 1, 1, 1), before, places(8, 10), rois, IMAGE.expand(2))
    assert x.flatten(1).tolist() == [pytest.approx([1.0] * 4), [0.0] * 4]
    assert logits.flatten(1).tolist() == [pytest.approx([3 + math.log(3)] * 4), pytest.approx([-math.log(3)] * 4)]


def test_the_features_before_are_enlarged(stage):
    stage.reduce.weight.data[:] = 2.0
    # 5 in the only cell before is 5 in all four, times 2
    x, _ = stage(
        torch.full((1, 1, 1, 1), 5.0),
        torch.zeros(1, 1, 1),
        places(8, 10),
        torch.tensor([[0.0, 4.0, 4.0, 8.0, 8.0]]),
        IMAGE,
    )
    assert x.flatten().tolist() == [10.0] * 4
