"""Box regression losses (Zheng et al., "Distance-IoU Loss", AAAI 2020), on XYXY boxes of shape (..., 4)."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss


def diou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - IoU + squared distance of the centres over the squared diagonal of the enclosing box.

    Args:
        boxes1, boxes2: (N, 4) XYXY, matched by row.
        reduction: "none" gives (N,), "mean" and "sum" a scalar, 0 for no boxes.
        eps: keeps the divisions finite.
    """
    return distance_box_iou_loss(boxes1, boxes2, reduction, eps)


def ciou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """The DIoU loss plus a term for different aspect ratios; arguments as in ``diou_loss``."""
    return complete_box_iou_loss(boxes1, boxes2, reduction, eps)
