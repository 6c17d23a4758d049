"""Anchors with whole corners: by hand, and torchvision's own."""

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from rcnnkit.modeling import RoundedAnchorGenerator


def test_corners_are_whole_and_halves_go_to_even():
    generator = RoundedAnchorGenerator(sizes=[[32, 5]], aspect_ratios=[[0.5, 1.0]], strides=[16], offset=0.0)
    # 32²: 45.25 × 22.63 and 32 × 32; 5²: 7.07 × 3.54 and 5 × 5, whose half, 2.5, becomes 2
    wanted = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-4, -2, 4, 2], [-2, -2, 2, 2]]
    assert next(iter(generator.cell_anchors)).tolist() == wanted


def test_is_torchvisions_and_built_by_name():
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "RoundedAnchorGenerator"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    shapes = [ShapeSpec(channels=4, stride=stride) for stride in (4, 8, 16, 32, 64)]
    generator = build_anchor_generator(cfg, shapes)
    theirs = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    assert type(generator) is RoundedAnchorGenerator
    for cell, their_cell in zip(generator.cell_anchors, theirs.cell_anchors):
        assert torch.equal(cell, their_cell)
