"""The free parts of dense detectors; RetinaNet as a whole is compared with stock Detectron2's in tests/golden."""

import pytest
import torch

from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.modeling.meta_arch.retinanet import RetinaNet, RetinaNetHead
from detectron2.structures import Boxes, Instances
from tests.golden.cases import models


def test_channels_move_to_the_order_of_the_anchors():
    # two anchors of three values in a row of two cells: channel 10a + k, cell w is the value 100a + 10k + w
    levels = torch.tensor([[[[100.0 * a + 10 * k + w for w in range(2)]] for a in range(2) for k in range(3)]])
    wanted = [[100 * a + 10 * k + w for k in range(3)] for w in range(2) for a in range(2)]
    assert permute_to_N_HWA_K(levels, 3)[0].tolist() == wanted


def test_the_class_scores_start_at_the_prior():
    head = RetinaNetHead(
        input_shape=[ShapeSpec(channels=4)], num_classes=2, num_anchors=3, conv_dims=[4], prior_prob=0.1
    )
    assert head.cls_score.bias.sigmoid().tolist() == pytest.approx([0.1] * 6)
    with pytest.raises(AssertionError, match="1 levels, got 2"):
        head([torch.zeros(1, 4, 2, 2)] * 2)


@pytest.fixture(scope="module")
def retinanet() -> RetinaNet:
    cfg = models.config("retinanet_R50_FPN")
    cfg.merge_from_list(models.NARROW)
    cfg.MODEL.RETINANET.NUM_CLASSES = 2
    return RetinaNet(cfg)


def test_anchors_between_the_thresholds_are_ignored(retinanet):
    truth = Instances((64, 64), gt_boxes=Boxes([[0.0, 0.0, 10.0, 10.0]]), gt_classes=torch.tensor([1]))
    anchors = Boxes([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 4.5], [20.0, 20.0, 30.0, 30.0]])  # IoU 1, 0.45, 0
    labels, boxes = retinanet.label_anchors([anchors], [truth])
    assert labels[0].tolist() == [1, -1, 2]
    assert boxes[0][0].tolist() == [0.0, 0.0, 10.0, 10.0]
    labels, boxes = retinanet.label_anchors([anchors], [truth[:0]])
    assert labels[0].tolist() == [2, 2, 2] and boxes[0].shape == (3, 4)


def test_the_normalizer_is_a_moving_average(retinanet):
    assert retinanet._ema_update("some_average", 20, 100) == pytest.approx(92)
    assert retinanet._ema_update("some_average", 20, 100) == pytest.approx(84.8)
