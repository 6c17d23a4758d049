"""Regions of an image in which nobody has said what is there: crowds and boxes to be ignored.

Nothing in them is learnt as background, and they are no objects themselves. What counts is intersection over the area
of the anchor or proposal, as COCO's evaluation counts for crowds: a small box inside of a large region is covered.

Shape letters: M regions, N boxes. Boxes are absolute pixels XYXY.
"""

from __future__ import annotations

from typing import Any

import torch

from detectron2.config import CfgNode, configurable
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances, pairwise_ioa, pairwise_iou

IGNORED = "ignored"  # of an item of the mapper: Boxes (M, 4), absent where there are none


class ImageTargets(Instances):
    """The objects of one image, and the regions beside them that are ignored."""

    def __init__(self, image_size: tuple[int, int], ignored: Boxes, **fields: Any):
        """
        Args:
            image_size: height and width in pixels.
            ignored: (M, 4).
            **fields: as of Instances, of the objects.
        """
        super().__init__(image_size, **fields)
        self._ignored = ignored

    @property
    def ignored(self) -> Boxes:
        """(M, 4)"""
        return self._ignored


def targets_of(item: dict, device: torch.device) -> Instances:
    """The truth of an item of the mapper, on the device: its "instances", with the regions in "ignored" if any."""
    instances = item["instances"].to(device)
    if IGNORED not in item:
        return instances
    return ImageTargets(instances.image_size, item[IGNORED].to(device), **instances.get_fields())


def in_ignored(boxes: Boxes, targets: Instances, threshold: float) -> torch.Tensor | None:
    """Which boxes lie in an ignored region of the image.

    Args:
        boxes: (N, 4).
        targets: of the image.
        threshold: least share of the box's area in the image that one region covers, 0 to 1.

    Returns:
        (N,) bool; None where the image has no ignored regions.
    """
    if not isinstance(targets, ImageTargets) or len(targets.ignored) == 0:
        return None
    inside = boxes.clone()
    inside.clip(targets.image_size)  # half of an anchor at the border may lie outside, where no region is
    return (pairwise_ioa(targets.ignored, inside) >= threshold).any(dim=0)


@PROPOSAL_GENERATOR_REGISTRY.register()
class IgnoringRPN(RPN):
    """Detectron2's RPN, whose background sample leaves out the anchors in ignored regions.

    On images without such regions, and in inference, it does what RPN does.
    """

    @configurable
    def __init__(self, *, ignore_threshold: float, **rpn_arguments: Any):
        """
        Args:
            ignore_threshold: see `in_ignored`.
            **rpn_arguments: those of RPN.
        """
        super().__init__(**rpn_arguments)
        self.ignore_threshold = ignore_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "ignore_threshold": cfg.RCNNKIT.IGNORE_IOA}

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Per image, the labels of its anchors (1 object, 0 background, -1 not used) and the boxes matched."""
        all_anchors = Boxes.cat(anchors)
        ignored = [in_ignored(all_anchors, targets, self.ignore_threshold) for targets in gt_instances]
        if all(none is None for none in ignored):
            return super().label_and_sample_anchors(anchors, gt_instances)
        gt_labels, matched_boxes = [], []
        for targets, inside in zip(gt_instances, ignored, strict=True):
            if inside is None:
                [labels], [boxes] = super().label_and_sample_anchors(anchors, [targets])
            else:
                labels, boxes = self._label_beside(all_anchors, targets, inside)
            gt_labels.append(labels)
            matched_boxes.append(boxes)
        return gt_labels, matched_boxes

    def _label_beside(
        self, anchors: Boxes, targets: Instances, ignored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels and matched boxes of one image's anchors; the sample is drawn outside of the ignored regions."""
        matches, labels = self.anchor_matcher(pairwise_iou(targets.gt_boxes, anchors))
        if self.anchor_boundary_thresh >= 0:
            labels[~anchors.inside_box(targets.image_size, self.anchor_boundary_thresh)] = -1
        labels[ignored & (labels == 0)] = -1
        objects = targets.gt_boxes.tensor
        matched = objects[matches] if len(objects) else torch.zeros_like(anchors.tensor)
        return self._subsample_labels(labels), matched
