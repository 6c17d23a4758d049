"""The keypoint head of Mask R-CNN (arXiv 1703.06870): one heatmap per box and keypoint.

Shape letters: B boxes of the whole batch, K keypoints, S side of the heatmap.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.config import configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, interpolate
from detectron2.structures import Instances, heatmaps_to_keypoints
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

__all__ = ["BaseKeypointRCNNHead", "KRCNNConvDeconvUpsampleHead", "ROI_KEYPOINT_HEAD_REGISTRY", "build_keypoint_head"]

ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")
ROI_KEYPOINT_HEAD_REGISTRY.__doc__ = """
Keypoint heads, chosen by MODEL.ROI_KEYPOINT_HEAD.NAME: called as `head(cfg, input_shape)`, they map the features of B
boxes and their Instances to a dict of losses in training, to Instances with `pred_keypoints` otherwise.
"""

_TOTAL_SKIPPED = 0


def build_keypoint_head(cfg, input_shape: ShapeSpec) -> nn.Module:
    """The keypoint head that MODEL.ROI_KEYPOINT_HEAD.NAME names."""
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)


def keypoint_rcnn_loss(
    pred_keypoint_logits: torch.Tensor, instances: list[Instances], normalizer: float | None
) -> torch.Tensor:
    """Cross-entropy over the S·S cells of each visible keypoint's heatmap.

    Args:
        pred_keypoint_logits: (B, K, S, S).
        instances: per image, the boxes of the logits in the same order: `proposal_boxes`, `gt_keypoints`.
        normalizer: divisor of the summed loss; None: the number of visible keypoints.

    Returns:
        scalar; 0 with a gradient path where no keypoint is visible inside its box.
    """
    side = pred_keypoint_logits.shape[2]
    occupied = [per_image for per_image in instances if len(per_image)]
    cells, visible = [], []
    for per_image in occupied:
        cell, valid = per_image.gt_keypoints.to_heatmap(per_image.proposal_boxes.tensor, side)
        cells.append(cell.flatten())
        visible.append(valid.flatten() > 0)
    chosen = torch.nonzero(cat(visible)).squeeze(1) if occupied else None

    if chosen is None or chosen.numel() == 0:
        global _TOTAL_SKIPPED
        _TOTAL_SKIPPED += 1
        get_event_storage().put_scalar("kpts_num_skipped_batches", _TOTAL_SKIPPED, smoothing_hint=False)
        return pred_keypoint_logits.sum() * 0

    logits = pred_keypoint_logits.flatten(0, 1).flatten(1)
    loss = F.cross_entropy(logits[chosen], cat(cells)[chosen].to(torch.int64), reduction="sum")
    return loss / (chosen.numel() if normalizer is None else normalizer)


def keypoint_rcnn_inference(pred_keypoint_logits: torch.Tensor, pred_instances: list[Instances]) -> None:
    """Set `pred_keypoints`, (boxes, K, 3) of x, y in pixels and score, and `pred_keypoint_heatmaps`, (boxes, K, S, S).

    Args:
        pred_keypoint_logits: (B, K, S, S).
        pred_instances: per image, the boxes of the logits in the same order, with `pred_boxes`.
    """
    boxes = cat([per_image.pred_boxes.tensor for per_image in pred_instances], dim=0)
    logits = pred_keypoint_logits.detach()
    # columns of the decoded keypoints: x, y, logit, score
    keypoints = heatmaps_to_keypoints(logits, boxes.detach())[:, :, [0, 1, 3]]
    counts = [len(per_image) for per_image in pred_instances]
    for per_image, points, heatmaps in zip(pred_instances, keypoints.split(counts), logits.split(counts)):
        per_image.pred_keypoints = points
        per_image.pred_keypoint_heatmaps = heatmaps


class BaseKeypointRCNNHead(nn.Module):
    """What all keypoint heads share: loss and inference on the heatmaps that `layers` computes."""

    @configurable
    def __init__(self, *, num_keypoints: int, loss_weight: float = 1.0, loss_normalizer: float | str = 1.0):
        """
        Args:
            num_keypoints: K.
            loss_weight: factor of the loss.
            loss_normalizer: divisor of the summed loss per image; "visible": the number of visible keypoints.
        """
        super().__init__()
        if isinstance(loss_normalizer, str) and loss_normalizer != "visible":
            raise ValueError(f"loss_normalizer must be a number or 'visible', got {loss_normalizer!r}")
        self.num_keypoints = num_keypoints
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict[str, Any]:
        head, roi_heads = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        if head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS:
            normalizer: float | str = "visible"
        else:
            normalizer = head.NUM_KEYPOINTS * roi_heads.BATCH_SIZE_PER_IMAGE * roi_heads.POSITIVE_FRACTION
        return {
            "num_keypoints": head.NUM_KEYPOINTS,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_normalizer": normalizer,
        }

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        """
        Args:
            x: features of the B boxes of all images.
            instances: per image, the boxes of the features in the same order.

        Returns:
            in training, {"loss_keypoint": scalar}; otherwise `instances` with `pred_keypoints` set.
        """
        logits = self.layers(x)
        if self.training:
            normalizer = None if isinstance(self.loss_normalizer, str) else self.loss_normalizer * len(instances)
            return {"loss_keypoint": keypoint_rcnn_loss(logits, instances, normalizer) * self.loss_weight}
        keypoint_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Heatmap logits (B, K, S, S) of the features of B boxes."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x)")


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):  # type: ignore[misc]
    """3×3 convolutions with ReLU, a deconvolution to K heatmaps of twice the side, and bilinear doubling of them."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, num_keypoints: int, conv_dims: list[int], **kwargs):
        """
        Args:
            input_shape: shape of the pooled feature; only its channels are read.
            num_keypoints: K.
            conv_dims: output channels of each convolution.
            **kwargs: arguments of BaseKeypointRCNNHead.
        """
        super().__init__(num_keypoints=num_keypoints, **kwargs)
        self.up_scale = 2
        channels: Any = input_shape.channels
        for number, dim in enumerate(conv_dims, start=1):
            self.add_module(f"conv_fcn{number}", Conv2d(channels, dim, kernel_size=3, padding=1))
            self.add_module(f"conv_fcn_relu{number}", nn.ReLU())
            channels = dim
        self.score_lowres = ConvTranspose2d(channels, num_keypoints, kernel_size=4, stride=2, padding=1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS,
        }

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x)
        return interpolate(x, scale_factor=self.up_scale, mode="bilinear", align_corners=False)
