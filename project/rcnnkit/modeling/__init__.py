"""Parts of models, registered in Detectron2's registries."""

from .anchors import RoundedAnchorGenerator
from .backbones import FeatureBackbone, build_mobilenetv3_fpn_backbone, build_timm_fpn_backbone
from .ignored_regions import IgnoringRPN
from .keypoint_heads import CoordinateKeypointHead, SubpixelKeypointHead
from .mask_heads import BoundaryMaskHead, MaskQualityHead
from .meta_arch import MultiTaskRCNN
from .roi_heads import CascadeTaskROIHeads, TaskROIHeads

__all__ = [
    "BoundaryMaskHead",
    "CascadeTaskROIHeads",
    "CoordinateKeypointHead",
    "FeatureBackbone",
    "IgnoringRPN",
    "MaskQualityHead",
    "MultiTaskRCNN",
    "RoundedAnchorGenerator",
    "SubpixelKeypointHead",
    "TaskROIHeads",
    "build_mobilenetv3_fpn_backbone",
    "build_timm_fpn_backbone",
]
