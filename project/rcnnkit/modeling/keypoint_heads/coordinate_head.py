"""A light keypoint head: the x and the y of each point as two classifications over bins along the sides of the box.

Shape letters: B boxes of the whole batch, K keypoints, D channels, P side of the pooled features, F bins per cell,
L = P F bins along a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling.roi_heads import ROI_KEYPOINT_HEAD_REGISTRY, BaseKeypointRCNNHead
from detectron2.structures import Instances
from rcnnkit.modeling.precision import at_least_float32

from .coordinates import coordinate_loss, decode_bins
from .labels import class_points, keypoint_labels, set_keypoints


class AxisClassifiers(nn.Module):
    """Logits of the bins along both sides of the box, as sums of the evidence of all cells.

    SimCC's fully connected layer over all cells is replaced by a convolution, so that what is learnt at one place is
    known at all: each cell says how much speaks for the point there, and for each of its F columns and F rows. A bin of
    x gathers its column over all rows of cells, log Σ exp, as the marginal of a distribution over the box does.
    """

    def __init__(self, channels: int, num_keypoints: int, bins_per_cell: int):
        """
        Args:
            channels: D.
            num_keypoints: K.
            bins_per_cell: F.
        """
        super().__init__()
        self.num_keypoints, self.bins_per_cell = num_keypoints, bins_per_cell
        self.evidence = nn.Conv2d(channels, num_keypoints * (1 + 2 * bins_per_cell), kernel_size=3, padding=1)
        nn.init.normal_(self.evidence.weight, std=0.01)
        nn.init.zeros_(self.evidence.bias)  # type: ignore[arg-type]

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            features: (B, D, P, P).

        Returns:
            of x and of y, each (B, K, L).
        """
        evidence = at_least_float32(self.evidence(features)).unflatten(1, (self.num_keypoints, -1))
        of_cell, of_columns, of_rows = evidence.split([1, self.bins_per_cell, self.bins_per_cell], dim=2)
        along_x = (of_cell + of_columns).logsumexp(dim=3)  # (B, K, F, P)
        along_y = (of_cell + of_rows).logsumexp(dim=4)
        return along_x.transpose(2, 3).flatten(2), along_y.transpose(2, 3).flatten(2)


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class CoordinateKeypointHead(BaseKeypointRCNNHead):
    """3×3 convolutions and two classifiers for the coordinates (SimCC, Li et al., ECCV 2022): no heatmaps.

    In training, `forward(features (B, D, P, P), instances)` returns `loss_keypoint`; otherwise the instances with
    `pred_keypoints` (boxes, K, 3): x, y in absolute pixels and score, the probability that the point lies there.
    """

    class_points: torch.Tensor | None

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        num_conv: int = 4,
        conv_dim: int = 256,
        norm: str = "",
        bins_per_cell: int = 4,
        sigma: float = 2.0,
        class_keypoints: Sequence[Sequence[int]] = (),
        loss_weight: float = 1.0,
        loss_normalizer: float | str = "visible",
    ):
        """
        Args:
            input_shape: of the pooled features: channels, height and width, which are equal.
            num_keypoints: K.
            num_conv: number of convolutions.
            conv_dim: D, their channels.
            norm: their normalisation, as `get_norm` takes it.
            bins_per_cell: F, bins for each cell of the pooled features.
            sigma: standard deviation of the targets, in bins.
            class_keypoints: per class the indices of its points; empty: every class has all.
            loss_weight: factor of the loss.
            loss_normalizer: divisor of the summed loss per image; "visible": the number of labelled points.

        Raises:
            ValueError: features that are not square.
        """
        super().__init__(num_keypoints=num_keypoints, loss_weight=loss_weight, loss_normalizer=loss_normalizer)
        if input_shape.height is None or input_shape.height != input_shape.width:
            raise ValueError(
                f"CoordinateKeypointHead: the pooled features are {input_shape.height} × {input_shape.width} "
                "(height × width); it needs both sides known and equal"
            )
        self.sigma = sigma
        convolutions: list[nn.Module] = []
        channels: Any = input_shape.channels
        for _ in range(num_conv):
            normalization = get_norm(norm, conv_dim)
            convolutions.append(
                Conv2d(channels, conv_dim, 3, padding=1, bias=not norm, norm=normalization, activation=F.relu)
            )
            c2_msra_fill(convolutions[-1])
            channels = conv_dim
        self.convolutions = nn.Sequential(*convolutions)
        self.classifiers = AxisClassifiers(channels, num_keypoints, bins_per_cell)
        self.register_buffer("class_points", class_points(class_keypoints, num_keypoints), persistent=False)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        own = head.COORDINATE
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "num_conv": own.NUM_CONV,
            "conv_dim": own.CONV_DIM,
            "norm": own.NORM,
            "bins_per_cell": own.BINS_PER_CELL,
            "sigma": own.SIGMA,
            "class_keypoints": head.CLASS_KEYPOINTS,
        }

    def layers(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Logits of the bins of x and of y, each (B, K, L)."""
        # on a CPU narrow convolutions take four fifths of the time in this layout
        return self.classifiers(self.convolutions(x.contiguous(memory_format=torch.channels_last)))

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> dict[str, torch.Tensor] | list[Instances]:
        x_logits, y_logits = self.layers(x)
        if not self.training:
            (left, x_share), (top, y_share) = (decode_bins(axis.detach(), self.sigma) for axis in (x_logits, y_logits))
            set_keypoints(instances, torch.stack([left, top], dim=2), x_share * y_share, self.class_points)
            return instances
        labels = keypoint_labels(instances, self.class_points, x_logits.float(), self.num_keypoints)
        normalizer = None if isinstance(self.loss_normalizer, str) else self.loss_normalizer * len(instances)
        of_x, of_y = (
            coordinate_loss(logits, labels.points[..., axis], labels.located, self.sigma, normalizer)
            for axis, logits in enumerate((x_logits, y_logits))
        )
        return {"loss_keypoint": (of_x + of_y) * self.loss_weight}
