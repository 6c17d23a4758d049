"""Masks from coarse to fine: their targets, the band along their outline, the losses in it, and how stages compose.

Zhang et al., "RefineMask: Towards High-Quality Instance Segmentation with Fine-Grained Features", CVPR 2021,
https://arxiv.org/abs/2104.08569. Shape letters: B boxes of the whole batch, S side of the masks, n side of the finest
ones. A mask is a square grid over its box, whatever that box's size in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from detectron2.structures import Instances


@torch.no_grad()
def finest_targets(instances: list[Instances], side: int, device: torch.device) -> torch.Tensor:
    """Each object's mask inside its box, drawn once.

    Args:
        instances: per image, `proposal_boxes` and `gt_masks` (`PolygonMasks` or `BitMasks`).
        side: n.

    Returns:
        (B, n, n) float32, 0 or 1.
    """
    masks = [p.gt_masks.crop_and_resize(p.proposal_boxes.tensor, side).to(device) for p in instances if len(p)]
    return torch.cat(masks).float() if masks else torch.zeros(0, side, side, device=device)


def coarser(targets: torch.Tensor, side: int) -> torch.Tensor:
    """The share of each cell that the mask covers: what a mask of fewer cells shall predict.

    Args:
        targets: (B, n, n), n a multiple of S.
        side: S.

    Returns:
        (B, S, S), 0 to 1.
    """
    return targets if targets.shape[-1] == side else F.avg_pool2d(targets[:, None], targets.shape[-1] // side)[:, 0]


def boundary_band(masks: torch.Tensor, width: int) -> torch.Tensor:
    """The cells near the outline: those of which a square of 2 × width + 1 cells has cells of both kinds.

    Outside of the grid is neither: an object that its box cuts has no outline there.

    Args:
        masks: (B, S, S) probabilities; what is above 0.5 is mask.
        width: cells on each side of the outline, 1 or more.

    Returns:
        (B, S, S) bool.
    """
    binary = (masks > 0.5).to(torch.float32)
    if not len(binary):
        return binary > 0
    size = 2 * width + 1
    # one pooling of both: a padded maximum ignores what is outside
    near = F.max_pool2d(torch.stack([binary, -binary], dim=1), size, stride=1, padding=width)
    return near.sum(dim=1) > 0


def doubled(masks: torch.Tensor) -> torch.Tensor:
    """(B, S, S) → (B, 2 S, 2 S): bilinear for numbers, each cell four times for bools."""
    if masks.dtype == torch.bool:
        return masks.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return F.interpolate(masks[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]


def compose(masks: list[torch.Tensor], width: int) -> torch.Tensor:
    """One mask from those of all stages: near the outline of the coarser mask the finer one, elsewhere the coarser one.

    Section 3.3 of the paper.

    Args:
        masks: of probabilities, coarsest first; each (B, S, S) has twice the side of the one before.
        width: of the band, in cells of the coarser mask.

    Returns:
        (B, n, n)
    """
    composed = masks[0]
    for finer in masks[1:]:
        composed = torch.where(doubled(boundary_band(composed, width)), finer, doubled(composed))
    return composed


def whole_loss(logits: torch.Tensor, targets: torch.Tensor, dice_weight: float) -> torch.Tensor:
    """Binary cross-entropy, the mean of all cells, and a dice loss, the mean of all boxes.

    Dice loss: Milletari et al., "V-Net", 3DV 2016, https://arxiv.org/abs/1606.04797, one minus the coefficient of its
    equation with squares. A small or thin object counts as much as a large one in it.

    Args:
        logits: (B, S, S).
        targets: (B, S, S), 0 to 1.
        dice_weight: factor of the dice loss.

    Returns:
        scalar; 0 with a gradient path where there are no boxes.
    """
    if not len(logits):
        return logits.sum() * 0
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    return loss + dice_weight * dice_loss(logits.sigmoid(), targets) if dice_weight else loss


def dice_loss(masks: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B, S, S) probabilities and targets, B > 0 → scalar from 0 to 1; 0.5 cells are added against division by 0."""
    masks, targets = masks.flatten(1), targets.flatten(1)
    common = 2 * (masks * targets).sum(dim=1) + 0.5
    both = (masks * masks).sum(dim=1) + (targets * targets).sum(dim=1) + 0.5
    return (1 - common / both).mean()


def band_loss(logits: torch.Tensor, targets: torch.Tensor, band: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy in the band only, the mean of its cells (section 3.3 of the paper).

    Args:
        logits: (B, S, S).
        targets: (B, S, S), 0 to 1.
        band: (B, S, S) bool.

    Returns:
        scalar; 0 with a gradient path where the band is empty.
    """
    inside = logits[band]
    if not len(inside):
        return inside.sum() * 0
    return F.binary_cross_entropy_with_logits(inside, targets[band])


def refined_cells(masks: torch.Tensor, targets: torch.Tensor, width: int) -> torch.Tensor:
    """Where the next stage learns: near the outline of a stage's mask or of its target (section 3.3 of the paper).

    Args:
        masks: (B, S, S) probabilities.
        targets: (B, S, S), 0 to 1.
        width: of the band, in cells.

    Returns:
        (B, 2 S, 2 S) bool.
    """
    return doubled(boundary_band(masks, width) | boundary_band(targets, width))
