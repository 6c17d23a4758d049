"""Box head: layers, shapes, initialisation."""

import math

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.box_head import FastRCNNConvFCHead, build_box_head


def test_layers_and_output_shape():
    head = FastRCNNConvFCHead(ShapeSpec(channels=4, height=3, width=3), conv_dims=[8], fc_dims=[16, 5])
    assert [name for name, _ in head.named_children()] == ["conv1", "flatten", "fc1", "fc_relu1", "fc2", "fc_relu2"]
    assert head.output_shape == ShapeSpec(channels=5)
    assert head(torch.randn(2, 4, 3, 3)).shape == (2, 5)
    assert head(torch.randn(0, 4, 3, 3)).shape == (0, 5)
    assert head.fc1.weight.abs().max().item() == pytest.approx(math.sqrt(3 / 72), rel=0.02)  # uniform Xavier


def test_convolutions_alone_keep_the_map():
    head = FastRCNNConvFCHead(ShapeSpec(channels=4, height=3, width=3), conv_dims=[8], fc_dims=[], conv_norm="BN")
    assert head.output_shape == ShapeSpec(channels=8, height=3, width=3)
    assert head.conv1.bias is None
    assert head(torch.randn(2, 4, 3, 3)).shape == (2, 8, 3, 3)


def test_from_config():
    cfg = get_cfg()
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    shape = ShapeSpec(channels=4, height=3, width=3)
    with pytest.raises(ValueError, match="NUM_CONV or NUM_FC"):
        build_box_head(cfg, shape)
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 7
    assert build_box_head(cfg, shape).output_shape.channels == 7
