"""Masks and keypoints are learnt only from the objects that have them labelled.

Shape letters: R boxes of the whole batch, Ri of image i.
"""

from __future__ import annotations

import torch
from torch import nn

from detectron2.structures import Instances

# Field of Instances (R,) bool, set by the mapper: the object has this labelled. Without the field, every object has.
HAS_MASK, HAS_KEYPOINTS = "gt_has_mask", "gt_has_keypoints"
HEADS = {"mask_head": HAS_MASK, "keypoint_head": HAS_KEYPOINTS}


def labelled_boxes(instances: list[Instances], field: str) -> torch.Tensor:
    """(R,) bool: which boxes of all images belong to an object that has it labelled.

    Args:
        instances: per image, proposals with the fields of the objects that they are matched to.
        field: `HAS_MASK` or `HAS_KEYPOINTS`.
    """
    device = instances[0].gt_classes.device
    per_image = [
        p.get(field).to(device) if p.has(field) else torch.ones(len(p), dtype=torch.bool, device=device)
        for p in instances
    ]
    return torch.cat(per_image)


def select_labelled(instances: list[Instances], field: str) -> list[Instances]:
    """Per image, the boxes whose object has it labelled."""
    return [p[p.get(field)] if p.has(field) else p for p in instances]


def learn_from_labels_only(model: nn.Module) -> nn.Module:
    """Let the mask and keypoint heads of a model see, in training, only the boxes of objects that have these labelled.

    The mean of the mask loss is then over labelled objects: one with a box only adds nothing to it, nor to its
    divisor. A batch without any gives a loss of 0. Works for any RoI heads whose `mask_head` and `keypoint_head` are
    called, as Detectron2's are, with the features of all boxes (R, ...) or with the feature maps by name, and
    the Instances of each image.

    Returns:
        The same model.
    """
    roi_heads = getattr(model, "roi_heads", None)
    for name, field in HEADS.items():
        head = getattr(roi_heads, name, None)
        if isinstance(head, nn.Module):
            head.register_forward_pre_hook(_Filter(field))
    return model


class _Filter:
    """Forward pre-hook of a head."""

    def __init__(self, field: str):
        self.field = field

    def __call__(self, head: nn.Module, arguments: tuple) -> tuple | None:
        if not head.training or len(arguments) != 2:
            return None
        features, instances = arguments
        if not any(p.has(self.field) for p in instances):
            return None
        if isinstance(features, torch.Tensor):
            features = features[labelled_boxes(instances, self.field)]
        return features, select_labelled(instances, self.field)
