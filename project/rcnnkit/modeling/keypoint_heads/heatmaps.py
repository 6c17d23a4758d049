"""Keypoints as Gaussian heatmaps: targets, loss, decoding (DARK, Zhang et al., CVPR 2020, arXiv 1910.06278).

Shape letters: B boxes, K keypoints, M labelled points of all boxes, H, W of the heatmap.
Points are in fractions of the box; the centre of cell (i, j) is at ((j + 0.5) / W, (i + 0.5) / H).
"""

from __future__ import annotations

import torch

from rcnnkit.modeling.precision import at_least_float32

from .coordinates import divergence, gaussian_bins
from .peaks import peak_2d


def gaussian_heatmaps(points: torch.Tensor, height: int, width: int, sigma: float) -> torch.Tensor:
    """Heatmaps with a Gaussian whose centre is the point itself, not the cell that it falls into.

    Args:
        points: (M, 2) x, y in fractions of the box.
        sigma: standard deviation in cells.

    Returns:
        (M, H, W), each sums to 1.
    """
    columns = gaussian_bins(points[:, 0], width, sigma)
    rows = gaussian_bins(points[:, 1], height, sigma)
    return rows[:, :, None] * columns[:, None, :]


def heatmap_loss(
    heatmap_logits: torch.Tensor,
    points: torch.Tensor,
    located: torch.Tensor,
    sigma: float,
    normalizer: float | None = None,
) -> torch.Tensor:
    """Kullback-Leibler divergence of the softmax over the cells from the Gaussian, summed over the located points.

    Args:
        heatmap_logits: (B, K, H, W).
        points: (B, K, 2) x, y in fractions of the box.
        located: (B, K) bool: the points to learn.
        sigma: of the Gaussian, in cells.
        normalizer: divisor; None: the number of located points.

    Returns:
        scalar, in nats; 0 with a gradient path where no point is located.
    """
    if not bool(located.any()):
        return heatmap_logits.sum() * 0
    logits = at_least_float32(heatmap_logits[located])
    height, width = logits.shape[1:]
    target = gaussian_heatmaps(points[located].to(logits), height, width, sigma)
    return divergence(logits.flatten(1), target.flatten(1), normalizer)


def decode_heatmaps(heatmap_logits: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The point of each heatmap, between its cells.

    Args:
        heatmap_logits: (B, K, H, W).
        sigma: of the Gaussian that they learnt, in cells.

    Returns:
        (B, K, 2) x, y in fractions of the box, and (B, K) the probability, 0 … 1, within 3 sigma of the point: near 1
        where the head is sure, small where the heatmap has several peaks or none.
    """
    boxes, keypoints, height, width = heatmap_logits.shape
    logits = at_least_float32(heatmap_logits).reshape(-1, height, width)
    top = peak_2d(logits, sigma)
    share = logits.flatten(1).softmax(dim=1).view_as(logits)
    across = torch.arange(width, device=logits.device) - top[:, :1]
    down = torch.arange(height, device=logits.device) - top[:, 1:]
    near = down.square()[:, :, None] + across.square()[:, None, :] <= (3 * sigma) ** 2
    scores = (share * near).sum(dim=(1, 2)).clamp(max=1)
    points = (top + 0.5) / top.new_tensor([width, height])
    return points.view(boxes, keypoints, 2), scores.view(boxes, keypoints)
