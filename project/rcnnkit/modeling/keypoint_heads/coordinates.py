"""Keypoints as two classifications, of x and of y: targets, loss, decoding.

"SimCC: a simple coordinate classification perspective for human pose estimation" (Li et al., ECCV 2022,
arXiv 2107.03332), with its Gaussian label smoothing; its arg max is refined between the bins.

Shape letters: B boxes, K keypoints, M labelled points of all boxes, L bins along a side of the box.
Points are in fractions of the box; the centre of bin i is at (i + 0.5) / L.
"""

from __future__ import annotations

import torch

from rcnnkit.modeling.precision import at_least_float32

from .peaks import peak_1d


def gaussian_bins(coordinates: torch.Tensor, num_bins: int, sigma: float) -> torch.Tensor:
    """Distributions over the bins with a Gaussian whose centre is the coordinate itself, not its bin.

    Args:
        coordinates: (M,) in fractions of the box.
        num_bins: L.
        sigma: standard deviation in bins.

    Returns:
        (M, L), each sums to 1.
    """
    bins = torch.arange(num_bins, device=coordinates.device, dtype=coordinates.dtype)
    centre = coordinates * num_bins - 0.5
    return (-(bins - centre[:, None]).square() / (2 * sigma**2)).softmax(dim=1)


def coordinate_loss(
    bin_logits: torch.Tensor,
    coordinates: torch.Tensor,
    located: torch.Tensor,
    sigma: float,
    normalizer: float | None = None,
) -> torch.Tensor:
    """Kullback-Leibler divergence of the softmax over the bins from the Gaussian, summed over the located points.

    Args:
        bin_logits: (B, K, L) of x, or of y.
        coordinates: (B, K) of the same axis, in fractions of the box.
        located: (B, K) bool: the points to learn.
        sigma: of the Gaussian, in bins.
        normalizer: divisor; None: the number of located points.

    Returns:
        scalar, in nats; 0 with a gradient path where no point is located.
    """
    if not bool(located.any()):
        return bin_logits.sum() * 0
    logits = at_least_float32(bin_logits[located])
    target = gaussian_bins(coordinates[located].to(logits), logits.shape[1], sigma)
    return divergence(logits, target, normalizer)


def divergence(logits: torch.Tensor, target: torch.Tensor, normalizer: float | None) -> torch.Tensor:
    """Kullback-Leibler divergence of the softmax of (M, L) logits from (M, L) target distributions, in nats.

    It is summed and divided by `normalizer`; None: by M.
    """
    loss = (torch.xlogy(target, target) - target * logits.log_softmax(dim=1)).sum()
    return loss / (len(logits) if normalizer is None else normalizer)


def decode_bins(bin_logits: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The coordinate of each distribution, between its bins.

    Args:
        bin_logits: (B, K, L).
        sigma: of the Gaussian that they learnt, in bins.

    Returns:
        (B, K) coordinate in fractions of the box, and (B, K) the probability, 0 … 1, within 3 sigma of it.
    """
    num_bins = bin_logits.shape[2]
    logits = at_least_float32(bin_logits).flatten(0, 1)
    top = peak_1d(logits, sigma)
    near = (torch.arange(num_bins, device=logits.device) - top[:, None]).abs() <= 3 * sigma
    scores = (logits.softmax(dim=1) * near).sum(dim=1).clamp(max=1)
    return ((top + 0.5) / num_bins).view(bin_logits.shape[:2]), scores.view(bin_logits.shape[:2])
