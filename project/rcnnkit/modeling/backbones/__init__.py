"""Backbones with a feature pyramid, registered in Detectron2's BACKBONE_REGISTRY."""

from .feature_backbone import FeatureBackbone
from .mobilenet_fpn import build_mobilenetv3_fpn_backbone
from .timm_fpn import build_timm_fpn_backbone

__all__ = ["FeatureBackbone", "build_mobilenetv3_fpn_backbone", "build_timm_fpn_backbone"]
