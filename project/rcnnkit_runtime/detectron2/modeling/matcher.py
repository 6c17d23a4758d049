"""Assignment of each prediction to at most one ground-truth element.

Shapes:
    M: number of ground-truth elements of one image
    N: number of predictions (anchors or proposals) of one image
"""

import itertools
import math

import torch

from detectron2.layers import nonzero_tuple

__all__ = ["Matcher"]


class Matcher:
    """Matches every prediction to its best ground-truth element and labels the match by its quality.

    The quality axis is cut by ``thresholds`` into bins that are closed below and open above; the prediction gets the
    label of the bin that its best quality falls into: 1 foreground, 0 background, -1 ignored. With
    ``allow_low_quality_matches`` every prediction that is the best one of some ground-truth element becomes foreground
    too, ties included (Ren et al., Faster R-CNN, section 3.1.2, rule i).
    """

    def __init__(self, thresholds: list[float], labels: list[int], allow_low_quality_matches: bool = False) -> None:
        """
        Args:
            thresholds: positive, non-decreasing cuts, e.g. ``[0.3, 0.7]``.
            labels: one label of {-1, 0, 1} for each of the ``len(thresholds) + 1`` bins, lowest bin first.
            allow_low_quality_matches: see the class.
        """
        assert thresholds and thresholds[0] > 0, f"thresholds must be a list of positive values, got {thresholds}"
        assert all(low <= high for low, high in itertools.pairwise(thresholds)), f"thresholds must ascend: {thresholds}"
        assert all(label in (-1, 0, 1) for label in labels), f"labels must be -1, 0 or 1, got {labels}"
        assert len(labels) == len(thresholds) + 1, (
            f"{len(thresholds)} thresholds make {len(thresholds) + 1} bins, got {len(labels)} labels"
        )
        self.thresholds = [-math.inf, *thresholds, math.inf]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            match_quality_matrix: (M, N) non-negative qualities, e.g. IoU.

        Returns:
            (N,) int64 index of each prediction's best ground-truth element (0 if there is none), (N,) int8 labels.
        """
        assert match_quality_matrix.dim() == 2, f"expected an (M, N) matrix, got {tuple(match_quality_matrix.shape)}"
        num_predictions = match_quality_matrix.shape[1]
        device = match_quality_matrix.device
        if match_quality_matrix.numel() == 0:
            matches = torch.zeros(num_predictions, dtype=torch.int64, device=device)
            return matches, torch.full((num_predictions,), self.labels[0], dtype=torch.int8, device=device)

        if not torch.jit.is_tracing():
            assert bool(match_quality_matrix.min() >= 0), "match qualities must be non-negative numbers"
        best_quality, matches = match_quality_matrix.max(dim=0)
        # Equal neighbouring thresholds leave an empty bin, which bucketize never returns.
        inner = best_quality.new_tensor(self.thresholds[1:-1])
        labels = torch.tensor(self.labels, dtype=torch.int8, device=device)
        match_labels = labels[torch.bucketize(best_quality, inner, right=True)]
        if self.allow_low_quality_matches:
            self.set_low_quality_matches_(match_labels, match_quality_matrix)
        return matches, match_labels

    def set_low_quality_matches_(self, match_labels: torch.Tensor, match_quality_matrix: torch.Tensor) -> None:
        """Labels as foreground, in place, the best predictions of each ground-truth element, whatever their quality.

        Only the label changes: such a prediction stays matched to *its* best element, which may be another one.
        """
        best_per_gt = match_quality_matrix.amax(dim=1, keepdim=True)
        match_labels[nonzero_tuple(match_quality_matrix == best_per_gt)[1]] = 1
