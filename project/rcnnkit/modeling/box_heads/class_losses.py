"""Classification losses for classes of very different numbers of objects.

Shape letters: R boxes of the whole batch, K foreground classes. Class K is the background. All losses are divided by R,
as Detectron2's cross-entropy is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from rcnnkit.modeling.precision import at_least_float32


def class_balanced_weights(counts: torch.Tensor, beta: float) -> torch.Tensor:
    """Weights that are inverse to the classes' effective numbers of objects, E(n) = (1 - βⁿ) / (1 - β).

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019,
    https://arxiv.org/abs/1901.05555; normalised as theirs, so that the mean is 1.

    Args:
        counts: (K,) objects of each class in the training data.
        beta: β, 0 (all weights 1) to 1, exclusive; the closer to 1, the closer to the inverse of the counts.

    Returns:
        (K + 1,) float32. The background has 1, and so has a class without objects, which is not in the mean.
    """
    present = counts > 0
    effective = (1 - beta ** counts.double().clamp(min=1)) / (1 - beta)
    weights = torch.ones(len(counts) + 1, dtype=torch.float64, device=counts.device)
    inverse = 1 / effective[present]
    weights[:-1][present] = inverse / inverse.mean()
    return weights.float()


def class_balanced_loss(logits: torch.Tensor, classes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy of each box times its class's weight.

    Args:
        logits: (R, K + 1).
        classes: (R,) int64, 0 to K.
        weights: (K + 1,), as of `class_balanced_weights`.

    Returns:
        scalar, 0 where R is 0.
    """
    if not len(classes):
        return logits.sum() * 0
    logits = at_least_float32(logits)
    return F.cross_entropy(logits, classes, weight=weights.to(logits), reduction="sum") / len(classes)


def seesaw_log_factors(
    logits: torch.Tensor,
    classes: torch.Tensor,
    counts: torch.Tensor,
    mitigation_power: float = 0.8,
    compensation_power: float = 2.0,
) -> torch.Tensor:
    """Logarithms of Seesaw's factors: how much box i of class c punishes each other class j.

    Wang et al., "Seesaw loss for long-tailed instance segmentation", CVPR 2021, https://arxiv.org/abs/2008.10032:
    S = M · C, mitigation M = min(1, (N_j / N_c)^p) and compensation C = max(1, (σ_j / σ_c)^q). The ratio of two softmax
    scores is exp(z_j - z_c). The background takes no part: factors from it and to it are 1.

    Args:
        logits: (R, K + 1); no gradient goes through the factors.
        classes: (R,) int64, 0 to K.
        counts: (K,) boxes of each class drawn so far; below 1 counts as 1.
        mitigation_power: p, 0 or more.
        compensation_power: q, 0 or more.

    Returns:
        (R, K + 1), at least float32, 0 in the column of the box's own class.
    """
    scores = at_least_float32(logits.detach())
    background = counts.numel()
    log_counts = counts.clamp(min=1).to(scores.dtype).log()
    own = classes.clamp(max=background - 1)  # rows of background are emptied below
    mitigation = mitigation_power * (log_counts[None, :] - log_counts[own][:, None]).clamp(max=0)
    above = (scores[:, :-1] - scores.gather(1, own[:, None])).clamp(min=0)
    factors = torch.zeros_like(scores)
    factors[:, :-1] = mitigation + compensation_power * above
    return factors * (classes != background)[:, None]


def seesaw_loss(logits: torch.Tensor, classes: torch.Tensor, log_factors: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy in whose denominator exp(z_j) is multiplied by S_j.

    Args:
        logits: (R, K + 1).
        classes: (R,) int64, 0 to K.
        log_factors: (R, K + 1) log S, as of `seesaw_log_factors`.

    Returns:
        scalar, 0 where R is 0.
    """
    if not len(classes):
        return logits.sum() * 0
    return F.cross_entropy(at_least_float32(logits) + log_factors, classes)
