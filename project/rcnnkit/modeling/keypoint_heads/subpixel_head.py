"""A keypoint head whose heatmaps are decoded between their cells, and that says whether each point can be seen.

Shape letters: B boxes of the whole batch, K keypoints, D channels, P side of the pooled features, S = 2 P of a heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.roi_heads import ROI_KEYPOINT_HEAD_REGISTRY, BaseKeypointRCNNHead
from detectron2.structures import Instances
from rcnnkit.modeling.head_boxes import per_image

from .heatmaps import decode_heatmaps, heatmap_loss
from .labels import class_points, keypoint_labels, set_keypoints, visibility_loss


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class SubpixelKeypointHead(BaseKeypointRCNNHead):
    """3×3 convolutions, a deconvolution to K heatmaps of twice the side, and a visibility for each point.

    The heatmaps learn Gaussians centred on the points themselves and are decoded distribution-aware (DARK, Zhang et
    al., CVPR 2020), so they need not be enlarged: a quarter of the cells of Detectron2's head. Whether a point is seen
    is read from the features where its heatmap lies, and from their mean.

    In training, `forward(features (B, D, P, P), instances)` returns `loss_keypoint` and `loss_keypoint_visibility`;
    otherwise the instances with `pred_keypoints` (boxes, K, 3): x, y in absolute pixels and score, the probability that
    the point is seen and lies there; and `pred_keypoint_heatmaps` (boxes, K, S, S), logits.
    """

    class_points: torch.Tensor | None

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        sigma: float = 1.0,
        visibility_loss_weight: float = 0.1,
        class_keypoints: Sequence[Sequence[int]] = (),
        loss_weight: float = 1.0,
        loss_normalizer: float | str = "visible",
    ):
        """
        Args:
            input_shape: of the pooled features; the channels are read.
            num_keypoints: K.
            conv_dims: channels of each convolution.
            sigma: standard deviation of the heatmaps' Gaussians, in cells.
            visibility_loss_weight: factor of the visibility's loss, relative to `loss_weight`.
            class_keypoints: per class the indices of its points; empty: every class has all.
            loss_weight: factor of the losses.
            loss_normalizer: divisor of the summed loss of the heatmaps per image; "visible": the number of
                labelled points.
        """
        super().__init__(num_keypoints=num_keypoints, loss_weight=loss_weight, loss_normalizer=loss_normalizer)
        self.sigma = sigma
        self.visibility_loss_weight = visibility_loss_weight
        convolutions: list[nn.Module] = []
        channels: Any = input_shape.channels
        for dim in conv_dims:
            convolutions.append(Conv2d(channels, dim, kernel_size=3, padding=1, activation=F.relu))
            c2_msra_fill(convolutions[-1])
            channels = dim
        self.convolutions = nn.Sequential(*convolutions)
        self.heatmaps = nn.ConvTranspose2d(channels, num_keypoints, kernel_size=4, stride=2, padding=1)
        nn.init.normal_(self.heatmaps.weight, std=0.01)
        nn.init.zeros_(self.heatmaps.bias)  # type: ignore[arg-type]
        # of the features at the point (first half) and of their mean
        self.visibility_weight = nn.Parameter(torch.randn(num_keypoints, 2 * channels) * 0.01)
        self.visibility_bias = nn.Parameter(torch.zeros(num_keypoints))
        self.register_buffer("class_points", class_points(class_keypoints, num_keypoints), persistent=False)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": head.CONV_DIMS,
            "sigma": head.SUBPIXEL.SIGMA,
            "visibility_loss_weight": head.SUBPIXEL.VISIBILITY_LOSS_WEIGHT,
            "class_keypoints": head.CLASS_KEYPOINTS,
        }

    def layers(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Logits of the heatmaps (B, K, S, S) and of the visibilities (B, K)."""
        features = self.convolutions(x)
        heatmap_logits = self.heatmaps(features)
        # Where the point is learns from its place alone, so the visibility does not move the heatmap.
        shares = heatmap_logits.detach().flatten(2).softmax(dim=2).view_as(heatmap_logits)
        shares = F.avg_pool2d(shares, 2, divisor_override=1).flatten(2)
        at_points = shares @ features.flatten(2).transpose(1, 2)
        overall = features.mean(dim=(2, 3))
        weight_at_points, weight_overall = self.visibility_weight.chunk(2, dim=1)
        visibility_logits = (at_points * weight_at_points).sum(dim=2) + overall @ weight_overall.T
        return heatmap_logits, visibility_logits + self.visibility_bias

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> dict[str, torch.Tensor] | list[Instances]:
        heatmap_logits, visibility_logits = self.layers(x)
        if not self.training:
            points, shares = decode_heatmaps(heatmap_logits.detach(), self.sigma)
            set_keypoints(
                instances, points, shares * visibility_logits.detach().to(shares).sigmoid(), self.class_points
            )
            for own, heatmaps in zip(instances, per_image(heatmap_logits.detach(), instances), strict=True):
                own.pred_keypoint_heatmaps = heatmaps
            return instances
        labels = keypoint_labels(instances, self.class_points, heatmap_logits.float(), self.num_keypoints)
        normalizer = None if isinstance(self.loss_normalizer, str) else self.loss_normalizer * len(instances)
        at_place = heatmap_loss(heatmap_logits, labels.points, labels.located, self.sigma, normalizer)
        seen = visibility_loss(visibility_logits, labels)
        return {
            "loss_keypoint": at_place * self.loss_weight,
            "loss_keypoint_visibility": seen * self.visibility_loss_weight * self.loss_weight,
        }
