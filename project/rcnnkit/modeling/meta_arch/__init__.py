"""Meta-architectures; importing the package registers them."""

from .multi_task_rcnn import MultiTaskRCNN

__all__ = ["MultiTaskRCNN"]
