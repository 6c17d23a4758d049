"""The boxes that heads are called with: their number, their classes, and the features inside of them.

Shape letters: B boxes of the whole batch, C channels, P side of the pooled features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, Instances

Features = torch.Tensor | dict[str, torch.Tensor]  # pooled (B, C, P, P), or maps by name (N, C, H, W)


def draw_boxes(features: Features, instances: list[Instances], most: int) -> tuple[Features, list[Instances]]:
    """At most so many boxes of a batch, drawn at random without preference for an image; they keep their order.

    Args:
        features: of the B boxes, (B, C, P, P); maps by name, which are of the images, stay as they are.
        instances: per image.
        most: 0: all.
    """
    counts = [len(own) for own in instances]
    if not most or sum(counts) <= most:
        return features, instances
    kept = drawn_rows(sum(counts), most).to(instances[0].gt_classes.device)
    drawn = [own[chosen] for own, chosen in zip(instances, kept.split(counts), strict=True)]
    return features[kept] if isinstance(features, torch.Tensor) else features, drawn


def drawn_rows(total: int, most: int) -> torch.Tensor:
    """(total,) bool: at most so many, drawn at random; 0: all."""
    kept = torch.full((total,), not most or total <= most)
    if not kept.all():
        kept[torch.randperm(total)[:most]] = True
    return kept


def boxes_of(instances: Sequence[Instances]) -> list[Boxes]:
    """Per image, the detected boxes, or where there are none the proposals."""
    return [p.pred_boxes if p.has("pred_boxes") else p.proposal_boxes for p in instances]


def classes_of(instances: list[Instances]) -> torch.Tensor:
    """(B,) int64: the predicted classes, or where there are none the true ones."""
    return torch.cat([p.pred_classes if p.has("pred_classes") else p.gt_classes for p in instances]).long()


def per_image(values: torch.Tensor, instances: Sequence[Instances]) -> tuple[torch.Tensor, ...]:
    """Values of the boxes of all images (B, ...) → those of each image's boxes.

    A traced model splits them by the numbers of boxes that it has then: these are sizes of tensors, not `len`.
    """
    return values.split([boxes.tensor.shape[0] for boxes in boxes_of(instances)])


def rows_of(boxes: list[Boxes]) -> torch.Tensor:
    """(B, 5), as RoIAlign reads them: number of the image, box."""
    return torch.cat([F.pad(own.tensor, (1, 0), value=float(image)) for image, own in enumerate(boxes)])


def build_box_pooler(cfg: Any, input_shape: dict[str, ShapeSpec], side: int) -> ROIPooler:
    """RoIAlign over feature maps, for heads that MODEL.ROI_MASK_HEAD.POOLER_TYPE "" hands the maps themselves.

    Args:
        input_shape: of the maps, finest first.
        side: P.
    """
    scales = [1.0 / shape.stride for shape in input_shape.values() if shape.stride]
    return ROIPooler(side, scales, cfg.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO, "ROIAlignV2")
