"""Targets, bands, losses and composition of refined masks, by hand-worked numbers."""

import math

import numpy as np
import pytest
import torch

from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from rcnnkit.modeling.mask_heads.boundary_masks import (
    band_loss,
    boundary_band,
    coarser,
    compose,
    dice_loss,
    doubled,
    finest_targets,
    refined_cells,
    whole_loss,
)


def drawn(*rows: str) -> torch.Tensor:
    """A mask, # and ., as (1, S, S) floats."""
    return torch.tensor([[[float(cell == "#") for cell in row] for row in rows]])


def shown(mask: torch.Tensor) -> list[str]:
    return ["".join("#" if cell else "." for cell in row) for row in mask[0].tolist()]


@pytest.mark.parametrize("kind", ["polygons", "bitmasks"])
def test_one_polygon_gives_masks_of_all_sizes(kind):
    corners = [np.array([0, 0, 8, 0, 8, 6, 0, 6], dtype=np.float64)]  # 8 × 6 of a box of 16 × 16 pixels
    instances = Instances((16, 16))
    outlines = PolygonMasks([corners])
    instances.gt_masks = outlines if kind == "polygons" else BitMasks.from_polygon_masks(outlines, 16, 16)
    instances.proposal_boxes = Boxes(torch.tensor([[0.0, 0.0, 16.0, 16.0]]))
    finest = finest_targets([instances[:0], instances], 8, torch.device("cpu"))
    assert finest.dtype == torch.float32
    assert shown(finest) == ["####....", "####....", "####....", "........"] + ["........"] * 4
    assert coarser(finest, 8) is finest
    assert coarser(finest, 4)[0, :, 0].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert coarser(finest, 2).tolist() == [[[0.75, 0.0], [0.0, 0.0]]]


def test_targets_without_boxes():
    finest = finest_targets([Instances((4, 4), proposal_boxes=Boxes(torch.zeros(0, 4)))], 8, torch.device("cpu"))
    assert finest.shape == (0, 8, 8) and coarser(finest, 2).shape == (0, 2, 2)


def test_the_band_of_a_drawn_mask():
    mask = drawn("........", ".......#", "......##", ".....###", "....####", "....####", "....####", "....####")
    assert shown(boundary_band(mask * 0.4 + 0.2, 1)) == [
        "......##",
        ".....###",
        "....####",
        "...####.",
        "...###..",
        "...##...",
        "...##...",
        "...##...",
    ]


def test_masks_without_outline_have_no_band():
    masks = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    assert not boundary_band(masks, 2).any()
    assert boundary_band(masks[:0], 2).shape == (0, 4, 4)


def test_a_wider_band_reaches_farther():
    mask = drawn("....", "....", "####", "####")
    assert shown(boundary_band(mask, 1)) == ["....", "####", "####", "...."]
    assert shown(boundary_band(mask, 2)) == ["####", "####", "####", "####"]


def test_doubling():
    assert doubled(torch.tensor([[[True, False], [False, False]]])).int()[0].tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert doubled(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))[0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]
    assert doubled(torch.zeros(0, 2, 2)).shape == (0, 4, 4)


def test_near_the_outline_the_finer_mask_decides():
    coarse = drawn("....", "....", "....", "####") * 0.8 + 0.1  # its band: the two lower rows
    fine = torch.full((1, 8, 8), 0.3)
    assert compose([coarse], 1) is coarse
    rows = compose([coarse, fine], 1)[0, :, 0].tolist()
    assert rows == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.3])


def test_each_stage_decides_near_the_outline_of_what_was_composed_before():
    coarse = drawn("....", "....", "....", "####")
    middle = torch.zeros(1, 8, 8)
    middle[:, 5:] = 1  # moves the outline up by a fine row
    finest = torch.full((1, 16, 16), 0.6)
    rows = compose([coarse, middle, finest], 1)[0, :, 0]
    assert rows[8:12].tolist() == pytest.approx([0.6] * 4)  # rows 4 and 5 of the middle mask
    assert rows[:8].tolist() == [0.0] * 8 and rows[13:].tolist() == [1.0] * 3
    empty = [torch.zeros(0, side, side) for side in (2, 4, 8)]
    assert compose(empty, 1).shape == (0, 8, 8)


def test_the_next_stage_learns_near_both_outlines():
    mask, target = drawn("#...", "#...", "#...", "#..."), drawn("###.", "###.", "###.", "###.")
    cells = refined_cells(mask, target, 1)
    assert cells.shape == (1, 8, 8) and cells.all()
    assert not refined_cells(mask * 0, target * 0, 1).any()
    only = refined_cells(mask * 0, target, 1)
    assert shown(only)[0] == "....####"


def test_the_loss_of_whole_masks():
    logits, targets = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert whole_loss(logits, targets, 0.0).item() == pytest.approx(math.log(2))
    # masks of 0.5: common 2 × 0.5 + 0.5, both 4 × 0.25 + 1 + 0.5
    assert dice_loss(logits.sigmoid(), targets).item() == pytest.approx(1 - 1.5 / 2.5)
    assert whole_loss(logits, targets, 2.0).item() == pytest.approx(math.log(2) + 2 * 0.4)


def test_the_dice_loss_of_right_and_wrong_masks():
    mask = drawn("##", "..")
    assert dice_loss(mask, mask).item() == 0
    assert dice_loss(mask, 1 - mask).item() == pytest.approx(1 - 0.5 / 4.5)
    assert dice_loss(mask * 0, mask * 0).item() == 0


def test_the_loss_in_a_band_leaves_the_rest_alone():
    logits = torch.tensor([[[2.0, -1.0], [9.0, 9.0]]], requires_grad=True)
    targets, band = drawn("#.", ".."), drawn("##", "..") > 0
    loss = band_loss(logits, targets, band)
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2)
    loss.backward()
    assert logits.grad[0, 1].tolist() == [0.0, 0.0] and logits.grad[0, 0].all()


@pytest.mark.parametrize("boxes", [0, 2])
def test_losses_without_cells(boxes):
    logits = torch.zeros(boxes, 4, 4, requires_grad=True)
    losses = [band_loss(logits, logits.detach(), torch.zeros(boxes, 4, 4, dtype=torch.bool))]
    losses += [whole_loss(logits, logits.detach(), 1.0)] if not boxes else []
    sum(losses).backward()
    assert all(loss.item() == 0 for loss in losses) and not logits.grad.any()


def test_the_gradients_of_the_losses():
    logits = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    targets, band = torch.rand(2, 4, 4, dtype=torch.float64), torch.rand(2, 4, 4) > 0.5
    assert torch.autograd.gradcheck(lambda x: whole_loss(x, targets, 0.7), logits)
    assert torch.autograd.gradcheck(lambda x: band_loss(x, targets, band), logits)
