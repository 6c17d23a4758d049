"""Keypoint head: loss by hand-worked numbers, decoding, empty input."""

import math

import pytest
import torch

from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.keypoint_head import (
    BaseKeypointRCNNHead,
    KRCNNConvDeconvUpsampleHead,
    keypoint_rcnn_inference,
    keypoint_rcnn_loss,
)
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

BOX = [0.0, 0.0, 8.0, 8.0]


def instances(keypoints) -> Instances:
    keypoints = torch.tensor(keypoints).view(-1, 2, 3)
    return Instances(
        (20, 20),
        proposal_boxes=Boxes(torch.tensor([BOX] * len(keypoints)).view(-1, 4)),
        gt_keypoints=Keypoints(keypoints),
    )


def test_loss_counts_visible_keypoints_inside():
    # of four keypoints one is invisible and one outside the box; uniform logits cost ln 16 each
    truth = [instances([[[1.0, 1, 2], [1, 1, 0]], [[30, 1, 2], [5, 5, 1]]])]
    logits = torch.zeros(2, 2, 4, 4)
    with EventStorage():
        assert keypoint_rcnn_loss(logits, truth, None).item() == pytest.approx(math.log(16))
        assert keypoint_rcnn_loss(logits, truth, 8.0).item() == pytest.approx(2 * math.log(16) / 8)


@pytest.mark.parametrize("truth", [[], [[[1.0, 1, 0], [1, 1, 0]]]])
def test_nothing_visible_gives_zero_with_gradient(truth):
    logits = torch.zeros(len(truth), 2, 4, 4, requires_grad=True)
    with EventStorage() as storage:
        loss = keypoint_rcnn_loss(logits, [instances(truth)], None)
        assert "kpts_num_skipped_batches" in storage.latest()
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_static_normalizer_grows_with_the_images():
    class Constant(BaseKeypointRCNNHead):
        def layers(self, x):
            return x

    head = Constant(num_keypoints=2, loss_weight=3.0, loss_normalizer=5.0).train()
    truth = [instances([[[1.0, 1, 2], [2, 2, 2]]]), instances([])]
    with EventStorage():
        loss = head(torch.zeros(1, 2, 4, 4), truth)["loss_keypoint"]
    assert loss.item() == pytest.approx(3.0 * 2 * math.log(16) / (5.0 * 2))


def test_inference_decodes_the_peak():
    logits = torch.full((2, 1, 8, 8), -5.0)
    logits[0, 0, 2, 5] = 5.0
    logits[1, 0, 0, 0] = 5.0
    images = [Instances((20, 20), pred_boxes=Boxes(torch.tensor([BOX]))) for _ in range(2)]
    keypoint_rcnn_inference(logits, images)
    x, y, score = images[0].pred_keypoints[0, 0].tolist()
    assert (x, y) == pytest.approx((5.5, 2.5), abs=0.5)  # cell centre
    assert 0.0 < score <= 1.0
    assert images[1].pred_keypoint_heatmaps.shape == (1, 1, 8, 8)


def test_head_quadruples_the_side_and_works_on_nothing():
    head = KRCNNConvDeconvUpsampleHead(ShapeSpec(channels=4), num_keypoints=3, conv_dims=[6]).eval()
    assert head.layers(torch.randn(2, 4, 5, 5)).shape == (2, 3, 20, 20)
    assert [name for name, _ in head.named_parameters()] == [
        "conv_fcn1.weight",
        "conv_fcn1.bias",
        "score_lowres.weight",
        "score_lowres.bias",
    ]
    empty = Instances((20, 20), pred_boxes=Boxes(torch.zeros(0, 4)))
    head(torch.zeros(0, 4, 5, 5), [empty])
    assert empty.pred_keypoints.shape == (0, 3, 3)


def test_unknown_normalizer_is_refused():
    with pytest.raises(ValueError, match="'visible'"):
        BaseKeypointRCNNHead(num_keypoints=1, loss_normalizer="all")
