"""IoU targets, loss and scores of mask quality, by hand-worked numbers."""

import numpy as np
import pytest
import torch

from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from rcnnkit.modeling.mask_heads.boxes import boxes_of, classes_of, draw_boxes
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
    first, second, bare = Instances((4, 4)), Instances((4, 4)), Instances((4, 4))
    first.scores, second.scores = torch.tensor([0.5]), torch.tensor([0.5, 0.8])
    bare.pred_classes = torch.tensor([0])
    set_mask_scores([first, second, bare], torch.tensor([0.5, 1.5, -0.2, 0.3]))
    assert first.mask_scores.tolist() == [0.25] and first.scores.tolist() == [0.5]
    assert second.pred_mask_quality.tolist() == [1.0, 0.0] and second.mask_scores.tolist() == [0.5, 0.0]
    assert not bare.has("mask_scores") and bare.pred_mask_quality.tolist() == pytest.approx([0.3])


def numbered(*numbers: int) -> Instances:
    instances = Instances((4, 4))
    instances.gt_classes = torch.tensor(numbers, dtype=torch.int64)
    instances.proposal_boxes = Boxes(torch.zeros(len(numbers), 4))
    return instances


def test_boxes_are_drawn_with_their_features():
    instances = [numbered(0, 1, 2), numbered(), numbered(3, 4)]
    features = torch.arange(5.0)[:, None]
    seen = set()
    for _ in range(60):
        kept, drawn = draw_boxes(features, instances, 2)
        assert kept[:, 0].tolist() == classes_of(drawn).tolist() == sorted(kept[:, 0].tolist())
        assert len(kept) == 2 and len(drawn) == 3 and len(boxes_of(drawn)[1]) == 0
        seen |= set(kept[:, 0].tolist())
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("most", [0, 5, 6])
def test_all_boxes_are_kept_up_to_the_limit(most):
    instances, features = [numbered(0, 1, 2), numbered(3, 4)], torch.arange(5.0)
    kept, drawn = draw_boxes(features, instances, most)
    assert kept is features and drawn is instances


def test_feature_maps_stay_where_boxes_are_drawn():
    maps = {"p2": torch.zeros(1, 2, 3, 3)}
    kept, drawn = draw_boxes(maps, [numbered(0, 1, 2)], 1)
    assert kept is maps and len(drawn[0]) == 1
