"""RoI heads and the tasks that they hold; importing the package registers them."""

from .keypoint_task import KeypointTask
from .mask_task import MaskTask
from .task_roi_heads import CascadeTaskROIHeads, TaskROIHeads
from .tasks import ROI_TASK_REGISTRY, Branch, RoITask

__all__ = [
    "ROI_TASK_REGISTRY",
    "Branch",
    "CascadeTaskROIHeads",
    "KeypointTask",
    "MaskTask",
    "RoITask",
    "TaskROIHeads",
]
