"""How good a predicted mask is: its IoU with the object's whole mask, and the loss of a prediction of it.

Huang et al., "Mask Scoring R-CNN", CVPR 2019, https://arxiv.org/abs/1903.00241, section 3.3. Shape letters: B boxes, Bi
of image i, K classes, S side of the predicted masks. Boxes are absolute pixels XYXY.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from detectron2.structures import Instances, PolygonMasks
from rcnnkit.modeling.head_boxes import per_image


def mask_areas(masks) -> torch.Tensor:
    """(B,) float32, pixels: area of each whole mask.

    Args:
        masks: `PolygonMasks` (overlapping polygons of an object count twice), or `BitMasks`.
    """
    if isinstance(masks, PolygonMasks):
        return torch.as_tensor(masks.area(), dtype=torch.float32)
    return masks.tensor.flatten(1).sum(dim=1, dtype=torch.float32)


def mask_iou(predicted: torch.Tensor, truth: torch.Tensor, areas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """IoU of masks inside boxes with the masks of the whole objects, of which a part may lie outside of the box.

    Args:
        predicted: (B, S, S) bool, predicted masks on a grid over each box.
        truth: (B, S, S) bool, the true masks on the same grid.
        areas: (B,) pixels, the true masks' whole areas.
        boxes: (B, 4).

    Returns:
        (B,) float32 from 0 to 1; 0 for a box without area and where both masks are empty.
    """
    cells = truth[0].numel() if len(truth) else 1
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    box_areas = width * height
    inside = truth.flatten(1).sum(dim=1).float()
    # in cells; a rasterised part may be larger than the exact whole
    whole = torch.maximum(areas * cells / box_areas.clamp(min=1e-6), inside)
    common = (predicted & truth).flatten(1).sum(dim=1).float()
    union = predicted.flatten(1).sum(dim=1).float() + whole - common
    return torch.where((union > 0) & (box_areas > 0), common / union.clamp(min=1.0), torch.zeros_like(common))


@torch.no_grad()
def quality_targets(masks: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
    """IoU of each predicted mask, at 0.5, with the mask of its object.

    Args:
        masks: (B, S, S) probabilities of the true classes' masks.
        instances: per image, `proposal_boxes` and `gt_masks`.

    Returns:
        (B,) float32.
    """
    side = masks.shape[-1]
    targets = []
    for own, predicted in zip(instances, per_image(masks, instances), strict=True):
        if not len(own):
            continue
        boxes = own.proposal_boxes.tensor
        truth = own.gt_masks.crop_and_resize(boxes, side).to(masks.device) > 0.5
        targets.append(mask_iou(predicted > 0.5, truth, mask_areas(own.gt_masks).to(boxes), boxes))
    return torch.cat(targets) if targets else masks.new_zeros(0, dtype=torch.float32)


def quality_loss(predicted: torch.Tensor, targets: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the IoU that is predicted for the true class: the ℓ2 loss of the paper.

    Args:
        predicted: (B, K).
        targets: (B,), 0 to 1.
        classes: (B,) int64.

    Returns:
        scalar; 0 with a gradient path where there are no boxes.
    """
    if not len(targets):
        return predicted.sum() * 0
    return F.mse_loss(own_class(predicted, classes), targets)


def own_class(values: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """(B, K), (B,) → (B,): the value of each box's class."""
    return values.gather(1, classes[:, None])[:, 0]


def set_mask_scores(instances: list[Instances], quality: torch.Tensor) -> None:
    """Set `pred_mask_quality`, the IoU that is expected, and `mask_scores`, `scores` times it; `scores` stay.

    Args:
        instances: per image.
        quality: (B,) predictions of any size; they are limited to 0 … 1.
    """
    for own, value in zip(instances, per_image(quality.clamp(0, 1), instances), strict=True):
        own.pred_mask_quality = value
        if own.has("scores"):
            own.mask_scores = own.scores * value
