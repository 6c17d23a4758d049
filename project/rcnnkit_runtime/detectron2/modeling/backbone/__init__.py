"""Backbones."""

from detectron2.modeling.backbone.backbone import Backbone
from detectron2.modeling.backbone.build import BACKBONE_REGISTRY, build_backbone
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.backbone.mvit import MViT
from detectron2.modeling.backbone.regnet import RegNet
from detectron2.modeling.backbone.resnet import (
    BasicStem,
    BottleneckBlock,
    ResNet,
    ResNetBlockBase,
    build_resnet_backbone,
    make_stage,
)
from detectron2.modeling.backbone.swin import SwinTransformer
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid, ViT, get_vit_lr_decay_rate

__all__ = [
    "BACKBONE_REGISTRY",
    "Backbone",
    "BasicStem",
    "BottleneckBlock",
    "FPN",
    "MViT",
    "RegNet",
    "ResNet",
    "ResNetBlockBase",
    "SimpleFeaturePyramid",
    "SwinTransformer",
    "ViT",
    "build_backbone",
    "build_resnet_backbone",
    "get_vit_lr_decay_rate",
    "make_stage",
]
