"""RoI heads: everything that a detector computes per box.

Shape letters: N images, Ri boxes of image i, Gi objects of image i, K foreground classes; class K is the background.
Boxes are absolute pixels XYXY. Name prefixes: gt_ truth, pred_ predicted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.box_head import build_box_head
from detectron2.modeling.roi_heads.branch_poolers import build_branch_pooler, build_pooler, common_channels
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.keypoint_head import build_keypoint_head
from detectron2.modeling.roi_heads.mask_head import build_mask_head
from detectron2.modeling.roi_heads.res5_roi_heads import Res5ROIHeads
from detectron2.modeling.roi_heads.roi_heads_base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    build_roi_heads,
    check_given_boxes,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
)
from detectron2.structures import Boxes, ImageList, Instances

__all__ = [
    "ROI_HEADS_REGISTRY",
    "ROIHeads",
    "Res5ROIHeads",
    "StandardROIHeads",
    "build_roi_heads",
    "select_foreground_proposals",
    "select_proposals_with_visible_keypoints",
]


def _branch_after_box(
    name: str, cfg, head_cfg, build_head: Callable[..., nn.Module], input_shape: dict[str, ShapeSpec]
) -> dict[str, Any]:
    """The arguments of StandardROIHeads for a branch on detected boxes: its features' names, pooler and head."""
    in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
    pooler, shape = build_branch_pooler(head_cfg, in_features, input_shape)
    return {f"{name}_in_features": in_features, f"{name}_pooler": pooler, f"{name}_head": build_head(cfg, shape)}


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """RoI heads with a branch each for boxes, masks and keypoints: each pools for itself and shares nothing."""

    box_head: Any
    box_predictor: Any
    mask_in_features: Any
    mask_pooler: ROIPooler | None
    mask_head: Any
    keypoint_in_features: Any
    keypoint_pooler: ROIPooler | None
    keypoint_head: Any

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs,
    ):
        """
        Args:
            box_in_features: names of the feature maps of the box branch.
            box_pooler: pools the box branch's features.
            box_head: maps pooled features to those that the predictor reads.
            box_predictor: classifies and regresses the boxes.
            mask_in_features: names of the feature maps of the mask branch.
            mask_pooler: pools the mask branch's features; None: the head takes the feature maps themselves.
            mask_head: predicts masks; None: no masks.
            keypoint_in_features: names of the feature maps of the keypoint branch.
            keypoint_pooler: as `mask_pooler`.
            keypoint_head: predicts keypoints; None: no keypoints.
            train_on_pred_boxes: masks and keypoints are trained on the boxes predicted from the proposals.
            **kwargs: arguments of ROIHeads.
        """
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor

        self.mask_on = mask_in_features is not None
        if self.mask_on:
            self.mask_in_features = mask_in_features
            self.mask_pooler = mask_pooler
            self.mask_head = mask_head

        self.keypoint_on = keypoint_in_features is not None
        if self.keypoint_on:
            self.keypoint_in_features = keypoint_in_features
            self.keypoint_pooler = keypoint_pooler
            self.keypoint_head = keypoint_head

        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:  # type: ignore[override]
        ret = super().from_config(cfg)
        ret["train_on_pred_boxes"] = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES
        # a subclass may still define these as instance methods that set attributes themselves: it then calls them
        for init in (cls._init_box_head, cls._init_mask_head, cls._init_keypoint_head):
            if hasattr(init, "__self__"):
                ret.update(init(cfg, input_shape))
        return ret

    @classmethod
    def _init_box_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = cfg.MODEL.ROI_BOX_HEAD
        side = head.POOLER_RESOLUTION
        pooler = build_pooler(head, in_features, input_shape)
        box_head = build_box_head(
            cfg, ShapeSpec(channels=common_channels(in_features, input_shape), height=side, width=side)
        )
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": box_head,
            "box_predictor": FastRCNNOutputLayers(cfg, box_head.output_shape),
        }

    @classmethod
    def _init_mask_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.MASK_ON:
            return {}
        return _branch_after_box("mask", cfg, cfg.MODEL.ROI_MASK_HEAD, build_mask_head, input_shape)

    @classmethod
    def _init_keypoint_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        return _branch_after_box("keypoint", cfg, cfg.MODEL.ROI_KEYPOINT_HEAD, build_keypoint_head, input_shape)

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """See :meth:`ROIHeads.forward`; in training the instances are the drawn proposals."""
        del images
        if not self.training:
            pred_instances = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, pred_instances), {}

        if targets is None:
            raise ValueError("StandardROIHeads: training needs targets")
        proposals = self.label_and_sample_proposals(proposals, targets)
        del targets
        losses = self._forward_box(features, proposals)
        # masks and keypoints learn on the sample of the box branch: its foreground, or its predicted boxes
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def forward_with_given_boxes(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks and keypoints to instances that have `pred_boxes` and `pred_classes`."""
        check_given_boxes(self, instances)
        instances = self._forward_mask(features, instances)
        return self._forward_keypoint(features, instances)

    def _forward_box(self, features: dict[str, torch.Tensor], proposals: list[Instances]):
        """The box branch: a dict of losses in training, a list of Instances with `pred_boxes` otherwise."""
        feature_maps = [features[name] for name in self.box_in_features]
        box_features = self.box_head(self.box_pooler(feature_maps, [p.proposal_boxes for p in proposals]))
        predictions = self.box_predictor(box_features)
        del box_features

        if not self.training:
            pred_instances, _ = self.box_predictor.inference(predictions, proposals)
            return pred_instances

        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                pred_boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
                for per_image, boxes in zip(proposals, pred_boxes):
                    per_image.proposal_boxes = Boxes(boxes)
        return losses

    def _forward_mask(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        """The mask branch: a dict of losses in training, `instances` with `pred_masks` otherwise."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        return self.mask_head(
            self._branch_features(features, instances, self.mask_in_features, self.mask_pooler), instances
        )

    def _forward_keypoint(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        """The keypoint branch: a dict of losses in training, `instances` with `pred_keypoints` otherwise."""
        if not self.keypoint_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
            instances = select_proposals_with_visible_keypoints(instances)
        return self.keypoint_head(
            self._branch_features(features, instances, self.keypoint_in_features, self.keypoint_pooler), instances
        )

    def _branch_features(
        self,
        features: dict[str, torch.Tensor],
        instances: list[Instances],
        in_features: list[str],
        pooler: ROIPooler | None,
    ):
        """Pooled features of the instances' boxes; without a pooler, the feature maps by name."""
        if pooler is None:
            return {name: features[name] for name in in_features}
        boxes = [p.proposal_boxes if self.training else p.pred_boxes for p in instances]
        return pooler([features[name] for name in in_features], boxes)
