"""Parts of models, registered in Detectron2's registries."""

from .anchors import RoundedAnchorGenerator
from .ignored_regions import IgnoringRPN
from .meta_arch import MultiTaskRCNN
from .roi_heads import CascadeTaskROIHeads, TaskROIHeads

__all__ = [
    "CascadeTaskROIHeads",
    "IgnoringRPN",
    "MultiTaskRCNN",
    "RoundedAnchorGenerator",
    "TaskROIHeads",
]
