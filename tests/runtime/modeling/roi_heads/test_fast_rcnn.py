"""Box predictor: losses and detection by hand-worked numbers."""

import math

import pytest
import torch

from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    _log_classification_stats,
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

BOX = [0.0, 0.0, 10.0, 10.0]


def predictor(**kwargs) -> FastRCNNOutputLayers:
    arguments = {"box2box_transform": Box2BoxTransform((1.0, 1.0, 1.0, 1.0)), "num_classes": 2, **kwargs}
    return FastRCNNOutputLayers(ShapeSpec(channels=3), **arguments)


def labelled(boxes, classes, gt_boxes=None) -> Instances:
    fields = {"proposal_boxes": Boxes(torch.tensor(boxes).view(-1, 4)), "gt_classes": torch.tensor(classes).long()}
    if gt_boxes is not None:
        fields["gt_boxes"] = Boxes(torch.tensor(gt_boxes).view(-1, 4))
    return Instances((20, 20), **fields)


def test_losses_by_hand():
    # box 0 is class 1 and its object lies 1 px right of it: dx = 1 / 10; box 1 is background
    proposals = [labelled([BOX, BOX], [1, 2], [[1.0, 0.0, 11.0, 10.0], BOX])]
    scores = torch.tensor([[0.0, math.log(2.0), 0.0], [0.0, 0.0, math.log(2.0)]])
    deltas = torch.zeros(2, 8)
    deltas[0, 4] = 0.3  # dx of class 1: off by 0.2
    deltas[0, 0] = 9.0  # class 0 is not asked
    with EventStorage():
        losses = predictor(loss_weight={"loss_box_reg": 2.0}).losses((scores, deltas), proposals)
    assert losses["loss_cls"].item() == pytest.approx(math.log(2.0))  # p = 2 / 4 for both
    assert losses["loss_box_reg"].item() == pytest.approx(0.2 / 2 * 2.0, rel=1e-5)  # over both boxes, weight 2


def test_class_agnostic_box_loss():
    proposals = [labelled([BOX], [1], [[1.0, 0.0, 11.0, 10.0]])]
    with EventStorage():
        losses = predictor(cls_agnostic_bbox_reg=True).losses((torch.zeros(1, 3), torch.zeros(1, 4)), proposals)
    assert losses["loss_box_reg"].item() == pytest.approx(0.1, rel=1e-5)


def test_giou_loss_of_a_shifted_box():
    # IoU 90 / 110; the hull is 110, so GIoU = IoU
    proposals = [labelled([BOX], [0], [[1.0, 0.0, 11.0, 10.0]])]
    with EventStorage():
        losses = predictor(box_reg_loss_type="giou").losses((torch.zeros(1, 3), torch.zeros(1, 8)), proposals)
    assert losses["loss_box_reg"].item() == pytest.approx(1 - 90 / 110, rel=1e-5)


def test_sigmoid_loss_sums_classes_and_averages_boxes():
    layers = predictor(use_sigmoid_ce=True)
    loss = layers.sigmoid_cross_entropy_loss(torch.zeros(2, 3), torch.tensor([0, 2]))
    assert loss.item() == pytest.approx(2 * math.log(2.0))  # two classes, ln 2 each, in either box


def test_federated_loss_reads_only_its_classes():
    layers = predictor(
        use_sigmoid_ce=True, use_fed_loss=True, get_fed_loss_cls_weights=lambda: torch.ones(2), fed_loss_num_classes=1
    )
    loss = layers.sigmoid_cross_entropy_loss(torch.zeros(2, 3), torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(math.log(2.0))  # class 0 alone


def test_federated_classes_hold_the_batch_and_draw_the_rest():
    weight = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0])
    classes = predictor().get_fed_loss_classes(torch.tensor([3, 5, 3]), 4, 5, weight)
    assert classes[:2].tolist() == [3, 5]
    assert sorted(classes[2:].tolist()) == [1, 4]  # the only ones of positive weight
    assert predictor().get_fed_loss_classes(torch.tensor([3, 5, 3]), 1, 5, weight).tolist() == [3, 5]


def test_federated_loss_needs_sigmoid():
    with pytest.raises(ValueError, match="USE_SIGMOID_CE"):
        predictor(use_fed_loss=True, get_fed_loss_cls_weights=lambda: torch.ones(2))


@pytest.mark.parametrize("kwargs", [{}, {"use_sigmoid_ce": True}, {"box_reg_loss_type": "ciou"}])
def test_no_boxes_give_zero_losses_with_gradient(kwargs):
    layers = predictor(**kwargs)
    with EventStorage() as storage:
        losses = layers.losses(layers(torch.zeros(0, 3)), [labelled([], []), labelled([], [])])
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in layers.parameters())
    assert storage.latest() == {}


def test_classification_stats():
    logits = torch.eye(3)[[0, 2, 2, 1]]  # predicted 0, background, background, 1
    with EventStorage() as storage:
        _log_classification_stats(logits, torch.tensor([0, 1, 2, 2]))
    stats = {name: value for name, (value, _) in storage.latest().items()}
    assert stats == {
        "fast_rcnn/cls_accuracy": 0.5,
        "fast_rcnn/fg_cls_accuracy": 0.5,
        "fast_rcnn/false_negative": 0.5,
    }


def test_detection_filters_clips_and_suppresses_within_a_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [15, 15, 30, 30]])
    scores = torch.tensor([[0.6, 0.3, 0.1], [0.7, 0.02, 0.28], [0.05, 0.9, 0.05]])
    result, rows = fast_rcnn_inference_single_image(boxes, scores, (20, 25), 0.05, 0.5, 10)
    # class 0: box 1 suppresses box 0; class 1: boxes 2 and 0; 0.05 is not above the threshold
    assert rows.tolist() == [2, 1, 0]
    assert result.pred_classes.tolist() == [1, 0, 1]
    assert result.scores.tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert result.pred_boxes.tensor[0].tolist() == [15.0, 15.0, 25.0, 20.0]


def test_detection_takes_the_box_of_its_class_and_the_best():
    boxes = torch.tensor([[0.0, 0, 5, 5, 6, 6, 12, 12]])
    (result,), (rows,) = fast_rcnn_inference([boxes], [torch.tensor([[0.3, 0.5, 0.2]])], [(20, 20)], 0.0, 0.5, 1)
    assert result.pred_boxes.tensor.tolist() == [[6.0, 6.0, 12.0, 12.0]]
    assert rows.tolist() == [0]


def test_rows_that_are_not_finite_are_left_out():
    boxes = torch.tensor([[0.0, 0, float("inf"), 10], [0, 0, 10, 10], [5, 5, 9, 9]])
    scores = torch.tensor([[0.9, 0.1], [float("nan"), 0.1], [0.8, 0.2]])
    result, _ = fast_rcnn_inference_single_image(boxes, scores, (20, 20), 0.05, 0.5, 10)
    assert result.scores.tolist() == pytest.approx([0.8])


def test_no_boxes_give_no_detections():
    layers = predictor()
    results, rows = layers.inference(layers(torch.zeros(0, 3)), [labelled([], [])])
    assert len(results[0]) == 0
    assert rows[0].numel() == 0


def test_boxes_for_true_classes():
    deltas = torch.zeros(2, 8)
    deltas[0, 4] = 0.1
    boxes = predictor().predict_boxes_for_gt_classes((torch.zeros(2, 3), deltas), [labelled([BOX, BOX], [1, 0])])
    torch.testing.assert_close(boxes[0], torch.tensor([[1.0, 0.0, 11.0, 10.0], BOX]))


def test_an_overridden_decoding_is_used():
    class Shifted(FastRCNNOutputLayers):
        def predict_boxes(self, predictions, proposals):
            return [boxes + 1 for boxes in super().predict_boxes(predictions, proposals)]

    layers = Shifted(ShapeSpec(channels=3), box2box_transform=Box2BoxTransform((1.0,) * 4), num_classes=2)
    results, _ = layers.inference((torch.zeros(1, 3), torch.zeros(1, 8)), [labelled([BOX], [0])])
    assert results[0].pred_boxes.tensor.tolist() == [[1.0, 1.0, 11.0, 11.0]] * 2
