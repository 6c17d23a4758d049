"""Random choice of the predictions that enter a loss."""

import torch

from detectron2.layers import nonzero_tuple

__all__ = ["subsample_labels"]


def subsample_labels(
    labels: torch.Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws at most ``num_samples`` indices, at most ``int(num_samples * positive_fraction)`` of them positive.

    Places that positives leave free go to negatives, never the other way round, so fewer indices may come back.

    Args:
        labels: (N,) integers; ``-1`` is ignored, ``bg_label`` negative, everything else positive.
        num_samples: upper bound of the number of indices.
        positive_fraction: upper bound of the share of positives.
        bg_label: the label of negatives.

    Returns:
        Indices of the chosen positives and of the chosen negatives, int64, in random order.
    """
    positive = nonzero_tuple((labels != -1) & (labels != bg_label))[0]
    negative = nonzero_tuple(labels == bg_label)[0]
    num_positive = min(positive.numel(), int(num_samples * positive_fraction))
    num_negative = min(negative.numel(), num_samples - num_positive)

    # Two full permutations, positives first: seeded runs then draw the same numbers whatever the sample sizes are.
    chosen_positive = torch.randperm(positive.numel(), device=positive.device)[:num_positive]
    chosen_negative = torch.randperm(negative.numel(), device=negative.device)[:num_negative]
    return positive[chosen_positive], negative[chosen_negative]
