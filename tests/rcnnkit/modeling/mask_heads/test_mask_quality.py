"""IoU targets, loss and scores of mask quality, by hand-worked numbers."""

import numpy as np
import pytest
import torch

from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from rcnnkit.modeling.mask_heads.mask_quality import (
    mask_areas,
    mask_iou,
    own_class,
    quality_loss,
    quality_targets,
    set_mask_scores,
)


def rectangle(left, top, right, bottom):
    return [np.array([left, top, right, top, right, bottom, left, bottom], dtype=np.float64)]


def test_area_of_polygons_and_bitmasks():
    polygons = PolygonMasks([rectangle(0, 0, 4, 3), []])
    assert mask_areas(polygons).tolist() == [12.0, 0.0]
    bits = torch.zeros(1, 6, 6)
    bits[0, 1:3, 2:6] = 1
    areas = mask_areas(BitMasks(bits))
    assert areas.tolist() == [8.0] and areas.dtype == torch.float32


def test_the_iou_counts_what_lies_outside_of_the_box():
    # a grid of 4 × 4 cells over a box of 8 × 8 pixels: a cell is 4 pixels
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 3)
    truth = torch.zeros(3, 4, 4, dtype=torch.bool)
    truth[:, :, :2] = True  # 8 cells
    predicted = torch.zeros(3, 4, 4, dtype=torch.bool)
    predicted[:, :2] = True  # 8 cells, of which 4 are true
    # whole object: 32 px = 8 cells, all in the box: 4 / (8 + 8 - 4); 64 px = 16 cells: 4 / (8 + 16 - 4);
    # 20 px = 5 cells, less than what was rasterised, which counts: as the first
    areas = torch.tensor([32.0, 64.0, 20.0])
    assert mask_iou(predicted, truth, areas, boxes).tolist() == pytest.approx([1 / 3, 1 / 5, 1 / 3])


def test_masks_without_cells_and_boxes_without_area():
    nothing, all_cells = torch.zeros(1, 2, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    assert mask_iou(nothing, nothing, torch.tensor([0.0]), box).tolist() == [0.0]
    assert mask_iou(nothing, all_cells, torch.tensor([4.0]), box).tolist() == [0.0]
    assert mask_iou(all_cells, all_cells, torch.tensor([4.0]), box).tolist() == [1.0]
    assert mask_iou(all_cells, all_cells, torch.tensor([4.0]), torch.zeros(1, 4)).tolist() == [0.0]
    assert mask_iou(nothing[:0], nothing[:0], torch.zeros(0), box[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["polygons", "bitmasks"])
def test_targets_of_a_batch(kind):
    outlines = PolygonMasks([rectangle(0, 0, 8, 4), rectangle(8, 8, 16, 16)])
    masks = outlines if kind == "polygons" else BitMasks.from_polygon_masks(outlines, 16, 16)
    instances = Instances((16, 16))
    instances.proposal_boxes = Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 8.0, 16.0, 12.0]]))
    instances.gt_masks = masks
    predicted = torch.full((2, 4, 4), 0.1)
    predicted[0, :, :2] = 0.9  # left half, the truth is the upper half: 4 / (8 + 8 - 4)
    predicted[1] = 0.9  # the upper half of the object: 16 cells of 32
    targets = quality_targets(predicted, [instances, instances[:0]])
    assert targets.tolist() == pytest.approx([1 / 3, 1 / 2])
    assert quality_targets(predicted[:0], [instances[:0]]).shape == (0,)


def test_the_loss_is_the_mean_square_of_the_true_class():
    predicted = torch.tensor([[0.5, 9.0], [9.0, 0.0]], requires_grad=True)
    loss = quality_loss(predicted, torch.tensor([0.75, 0.5]), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((0.0625 + 0.25) / 2)
    loss.backward()
    assert predicted.grad.tolist() == [[-0.25, 0.0], [0.0, -0.5]]


def test_the_gradient_of_the_loss():
    predicted = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    targets, classes = torch.rand(3, dtype=torch.float64), torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda values: quality_loss(values, targets, classes), predicted)


def test_the_loss_without_boxes():
    predicted = torch.zeros(0, 3, requires_grad=True)
    loss = quality_loss(predicted * 1, torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and predicted.grad.shape == (0, 3)


def test_the_value_of_the_own_class():
    assert own_class(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0])).tolist() == [2.0, 3.0]


def test_mask_scores_stand_beside_scores():
    first, second, bare = (Instances((4, 4), pred_boxes=Boxes(torch.zeros(count, 4))) for count in (1, 2, 1))
    first.scores, second.scores = torch.tensor([0.5]), torch.tensor([0.5, 0.8])
    bare.pred_classes = torch.tensor([0])
    set_mask_scores([first, second, bare], torch.tensor([0.5, 1.5, -0.2, 0.3]))
    assert first.mask_scores.tolist() == [0.25] and first.scores.tolist() == [0.5]
    assert second.pred_mask_quality.tolist() == [1.0, 0.0] and second.mask_scores.tolist() == [0.5, 0.0]
    assert not bare.has("mask_scores") and bare.pred_mask_quality.tolist() == pytest.approx([0.3])
