"""Encoding of a target box relative to a source box, decoding of predictions, and the dense regression loss.

Shapes:
    N: number of images
    R: number of boxes (of all feature levels together, for dense predictions)
    K: number of box predictions per source box (1 or one per class)

Names: ``src`` is an anchor or proposal, ``target`` a ground-truth box; both XYXY in absolute pixels.
"""

import math
from collections.abc import Sequence

import torch
from fvcore.nn import giou_loss, smooth_l1_loss

from detectron2.layers import cat, ciou_loss, diou_loss
from detectron2.structures import Boxes
from detectron2.utils.out_of_scope import refused_class

__all__ = ["Box2BoxTransform", "Box2BoxTransformLinear", "Box2BoxTransformRotated"]

# A size may grow by 1000 / 16 at most: a 16 px anchor to 1000 px; exp() of anything larger only serves to overflow.
_DEFAULT_SCALE_CLAMP = math.log(1000.0 / 16)


def _centers_and_sizes(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., 4) XYXY to (..., 2) centres and (..., 2) sizes."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes


class Box2BoxTransform:
    """R-CNN's codec (Girshick et al., R-CNN, appendix C): centre shift in units of the source's size, log scale."""

    def __init__(self, weights: tuple[float, float, float, float], scale_clamp: float = _DEFAULT_SCALE_CLAMP) -> None:
        """
        Args:
            weights: factors of (dx, dy, dw, dh); box heads use (10, 10, 5, 5) to bring targets near unit variance.
            scale_clamp: upper bound of the decoded log scale.
        """
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """(R, 4) source and target boxes to the (R, 4) deltas that ``apply_deltas`` turns into the targets again.

        Raises:
            AssertionError: a source box has no positive width.
        """
        assert isinstance(src_boxes, torch.Tensor), type(src_boxes)
        assert isinstance(target_boxes, torch.Tensor), type(target_boxes)
        src_centers, src_sizes = _centers_and_sizes(src_boxes)
        target_centers, target_sizes = _centers_and_sizes(target_boxes)
        weights = src_boxes.new_tensor(self.weights)
        shifts = (target_centers - src_centers) / src_sizes * weights[:2]
        scales = torch.log(target_sizes / src_sizes) * weights[2:]
        assert bool((src_sizes[..., 0] > 0).all()), "Input boxes to Box2BoxTransform are not valid!"
        return torch.cat([shifts, scales], dim=-1)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Decodes (R, K*4) deltas against (R, 4) source boxes into (R, K*4) XYXY boxes, float32 whatever the input."""
        deltas = deltas.float()  # half precision cannot hold pixel coordinates
        boxes = boxes.to(deltas.dtype)
        centers, sizes = _centers_and_sizes(boxes.unsqueeze(-2))
        per_class = deltas.unflatten(-1, (-1, 4)) if deltas.shape[-1] != 4 else deltas.unsqueeze(-2)
        weights = deltas.new_tensor(self.weights)
        scaled = per_class / weights
        half_sizes = torch.exp(scaled[..., 2:].clamp(max=self.scale_clamp)) * (0.5 * sizes)
        pred_centers = scaled[..., :2] * sizes + centers
        return torch.cat([pred_centers - half_sizes, pred_centers + half_sizes], dim=-1).reshape(deltas.shape)


class Box2BoxTransformLinear:
    """Distances from the source's centre to the four sides of the target (Tian et al., FCOS, eq. 1)."""

    def __init__(self, normalize_by_size: bool = True) -> None:
        """
        Args:
            normalize_by_size: distances in units of the source's width and height instead of pixels.
        """
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """(R, 4) source and target boxes to (R, 4) distances left, top, right, bottom; negative if outside."""
        assert isinstance(src_boxes, torch.Tensor), type(src_boxes)
        assert isinstance(target_boxes, torch.Tensor), type(target_boxes)
        centers, sizes = _centers_and_sizes(src_boxes)
        distances = torch.cat([centers - target_boxes[..., :2], target_boxes[..., 2:] - centers], dim=-1)
        return distances / torch.cat([sizes, sizes], dim=-1) if self.normalize_by_size else distances

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Decodes (..., 4) distances against boxes of that shape into XYXY boxes; negative distances count as zero."""
        distances = torch.relu(deltas.float())
        centers, sizes = _centers_and_sizes(boxes.to(distances.dtype))
        if self.normalize_by_size:
            distances = distances * torch.cat([sizes, sizes], dim=-1)
        return torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)


Box2BoxTransformRotated = refused_class(__name__, "Box2BoxTransformRotated", "rotated boxes")


def _dense_box_regression_loss(
    anchors: Sequence[Boxes | torch.Tensor],
    box2box_transform: Box2BoxTransform | Box2BoxTransformLinear,
    pred_anchor_deltas: list[torch.Tensor],
    gt_boxes: list[torch.Tensor],
    fg_mask: torch.Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> torch.Tensor:
    """Sum of the box regression losses of the foreground anchors of all images.

    Args:
        anchors: one per feature level, (HiWiA, 4) XYXY.
        box2box_transform: codec of the deltas.
        pred_anchor_deltas: one per feature level, (N, HiWiA, 4).
        gt_boxes: one per image, (R, 4): the box matched to each anchor.
        fg_mask: (N, R) bool, the anchors that count.
        box_reg_loss_type: ``smooth_l1`` on deltas; ``giou``, ``diou``, ``ciou`` on decoded boxes.
        smooth_l1_beta: where the smooth L1 loss turns from quadratic to linear; 0 is plain L1.

    Returns:
        A scalar; zero, yet connected to the predictions, when no anchor is foreground.
    """
    all_anchors = cat([level if isinstance(level, torch.Tensor) else level.tensor for level in anchors], dim=0)
    # Only foreground rows are ever looked at: they are a few hundred of some hundred thousand.
    fg_anchors = cat([all_anchors[mask] for mask in fg_mask], dim=0)
    fg_targets = cat([boxes[mask] for boxes, mask in zip(gt_boxes, fg_mask)], dim=0)
    fg_deltas = cat(pred_anchor_deltas, dim=1)[fg_mask]

    if box_reg_loss_type == "smooth_l1":
        targets = box2box_transform.get_deltas(fg_anchors, fg_targets)
        return smooth_l1_loss(fg_deltas, targets, beta=smooth_l1_beta, reduction="sum")
    losses = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}
    if box_reg_loss_type not in losses:
        raise ValueError(
            f"Invalid dense box regression loss type '{box_reg_loss_type}', choose smooth_l1, giou, diou or ciou"
        )
    fg_boxes = box2box_transform.apply_deltas(fg_deltas, fg_anchors)
    return losses[box_reg_loss_type](fg_boxes, fg_targets, reduction="sum")
