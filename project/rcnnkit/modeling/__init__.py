"""Parts of models, registered in Detectron2's registries."""

from .anchors import RoundedAnchorGenerator
from .ignored_regions import IgnoringRPN
from .keypoint_heads import CoordinateKeypointHead, SubpixelKeypointHead
from .meta_arch import MultiTaskRCNN
from .roi_heads import CascadeTaskROIHeads, TaskROIHeads

__all__ = [
    "CascadeTaskROIHeads",
    "CoordinateKeypointHead",
    "IgnoringRPN",
    "MultiTaskRCNN",
    "RoundedAnchorGenerator",
    "SubpixelKeypointHead",
    "TaskROIHeads",
]
