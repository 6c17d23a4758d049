"""RoI heads of the "C4" detectors: the last ResNet stage runs once per box.

Shape letters: N images, Ri boxes of image i, Gi objects of image i, K foreground classes; class K is the background.
Boxes are absolute pixels XYXY. Name prefixes: gt_ truth, pred_ predicted.
"""

from typing import Any

import torch
from torch import nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.branch_poolers import build_pooler
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.mask_head import build_mask_head
from detectron2.modeling.roi_heads.roi_heads_base import (
    ROI_HEADS_REGISTRY,
    ROIHeads,
    check_given_boxes,
    select_foreground_proposals,
)
from detectron2.structures import Boxes, ImageList, Instances


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """RoI heads of the "C4" detectors: one pooling, the last ResNet stage per box, then boxes and masks from it."""

    box_predictor: Any
    mask_head: Any

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: ROIPooler,
        res5: nn.Module,
        box_predictor: nn.Module,
        mask_head: nn.Module | None = None,
        **kwargs,
    ):
        """
        Args:
            in_features: names of the feature maps to pool from.
            pooler: pools the boxes' features.
            res5: maps pooled features to those that the predictor and the mask head read.
            box_predictor: classifies and regresses the boxes.
            mask_head: predicts masks; None: no masks.
            **kwargs: arguments of ROIHeads.
        """
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        self.res5 = nn.Sequential(*res5) if isinstance(res5, list | tuple) else res5
        self.box_predictor = box_predictor
        self.mask_on = mask_head is not None
        if mask_head is not None:
            self.mask_head = mask_head

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:  # type: ignore[override]
        ret = super().from_config(cfg)
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if len(in_features) != 1:
            raise ValueError(f"Res5ROIHeads pools from one feature map, but ROI_HEADS.IN_FEATURES is {in_features}")
        if cfg.MODEL.KEYPOINT_ON:
            raise ValueError("Res5ROIHeads has no keypoint head: set MODEL.KEYPOINT_ON False or take StandardROIHeads")
        head = cfg.MODEL.ROI_BOX_HEAD
        ret["in_features"] = in_features
        ret["pooler"] = build_pooler(head, in_features, input_shape)

        res5, channels = cls._build_res5_block(cfg)
        ret["res5"] = res5
        ret["box_predictor"] = FastRCNNOutputLayers(cfg, ShapeSpec(channels=channels, height=1, width=1))
        if cfg.MODEL.MASK_ON:
            side = head.POOLER_RESOLUTION
            ret["mask_head"] = build_mask_head(cfg, ShapeSpec(channels=channels, width=side, height=side))
        return ret

    @classmethod
    def _build_res5_block(cls, cfg) -> tuple[nn.Module, int]:
        """The fifth ResNet stage of the configured backbone, and its output channels."""
        resnets = cfg.MODEL.RESNETS
        if resnets.DEFORM_ON_PER_STAGE[-1]:
            raise ValueError("Res5ROIHeads: RESNETS.DEFORM_ON_PER_STAGE must be False for the last stage")
        # each stage doubles the channels of the one before: res5 has eight times res2's
        out_channels = resnets.RES2_OUT_CHANNELS * 8
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=out_channels // 2,
            bottleneck_channels=resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 8,
            out_channels=out_channels,
            num_groups=resnets.NUM_GROUPS,
            norm=resnets.NORM,
            stride_in_1x1=resnets.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def _shared_roi_transform(self, features: list[torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        """The features that the box predictor and the mask head share: pooled, then through `res5`."""
        return self.res5(self.pooler(features, boxes))

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """See :meth:`ROIHeads.forward`; in training the list of instances is empty."""
        del images
        if self.training:
            if targets is None:
                raise ValueError("Res5ROIHeads: training needs targets")
            proposals = self.label_and_sample_proposals(proposals, targets)
        del targets

        feature_maps = [features[name] for name in self.in_features]
        box_features = self._shared_roi_transform(feature_maps, [p.proposal_boxes for p in proposals])
        predictions = self.box_predictor(box_features.mean(dim=[2, 3]))

        if not self.training:
            pred_instances, _ = self.box_predictor.inference(predictions, proposals)
            return self.forward_with_given_boxes(features, pred_instances), {}

        losses = self.box_predictor.losses(predictions, proposals)
        if self.mask_on:
            foreground, masks = select_foreground_proposals(proposals, self.num_classes)
            # the box branch's features serve the masks: no second pass through res5
            losses.update(self.mask_head(box_features[cat(masks, dim=0)], foreground))
        return [], losses

    def forward_with_given_boxes(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks to instances that have `pred_boxes` and `pred_classes`."""
        check_given_boxes(self, instances)
        if not self.mask_on:
            return instances
        feature_maps = [features[name] for name in self.in_features]
        return self.mask_head(self._shared_roi_transform(feature_maps, [p.pred_boxes for p in instances]), instances)
