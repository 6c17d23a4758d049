"""Non-maximum suppression per category."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import boxes as box_ops
from torchvision.ops.boxes import nms  # noqa: F401

from detectron2.utils.out_of_scope import refused_function


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress boxes that overlap a better one of the same category.

    Args:
        boxes: (N, 4) absolute XYXY.
        scores: (N,).
        idxs: (N,) category of each box; boxes of different categories never suppress each other.
        iou_threshold: IoU above which the worse box goes.

    Returns:
        int64 indices of the boxes kept, best score first.
    """
    assert boxes.shape[-1] == 4, f"batched_nms takes boxes of shape (N, 4), got {tuple(boxes.shape)}"
    # Half precision cannot tell neighbouring pixels apart in large images.
    return box_ops.batched_nms(boxes.float(), scores.float(), idxs, iou_threshold)


nms_rotated = refused_function(__name__, "nms_rotated", "rotated boxes")
batched_nms_rotated = refused_function(__name__, "batched_nms_rotated", "rotated boxes")
