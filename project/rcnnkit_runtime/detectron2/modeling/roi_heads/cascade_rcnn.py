"""Cascade R-CNN (arXiv 1712.00726): box stages that refine one another, each trained at a higher IoU.

Shape letters: Ri boxes of image i, S stages. Boxes are absolute pixels XYXY.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import Function

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.box_head import build_box_head
from detectron2.modeling.roi_heads.branch_poolers import build_pooler, common_channels
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from detectron2.modeling.roi_heads.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage


class _ScaleGradient(Function):
    """Identity whose gradient is multiplied by `scale`."""

    @staticmethod
    def forward(ctx, input, scale):
        ctx.scale = scale
        return input.view_as(input)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * ctx.scale, None


@ROI_HEADS_REGISTRY.register()
class CascadeROIHeads(StandardROIHeads):
    """StandardROIHeads whose box branch is a sequence of stages; masks and keypoints read the last stage's boxes."""

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_heads: list[nn.Module],
        box_predictors: list[nn.Module],
        proposal_matchers: list[Matcher],
        **kwargs,
    ):
        """
        Args:
            box_in_features: names of the feature maps of the box branch.
            box_pooler: pools the features of every stage.
            box_heads: head of each of the S stages.
            box_predictors: predictor of each stage.
            proposal_matchers: matcher of each stage; the first labels the proposals that are drawn.
            **kwargs: arguments of StandardROIHeads.
        """
        if "proposal_matcher" in kwargs:
            raise ValueError("CascadeROIHeads takes proposal_matchers, one of each stage, not proposal_matcher")
        self.num_cascade_stages = len(box_heads)
        if not len(box_heads) == len(box_predictors) == len(proposal_matchers):
            raise ValueError(
                f"CascadeROIHeads: {len(box_heads)} heads, {len(box_predictors)} predictors and "
                f"{len(proposal_matchers)} matchers; each stage needs one of each"
            )
        super().__init__(
            box_in_features=box_in_features,
            box_pooler=box_pooler,
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            proposal_matcher=proposal_matchers[0],
            **kwargs,
        )
        self.proposal_matchers = proposal_matchers

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:  # type: ignore[override]
        ret = super().from_config(cfg, input_shape)
        ret.pop("proposal_matcher")
        return ret

    @classmethod
    def _init_box_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head, cascade = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_BOX_CASCADE_HEAD
        if len(cascade.BBOX_REG_WEIGHTS) != len(cascade.IOUS):
            raise ValueError("ROI_BOX_CASCADE_HEAD: BBOX_REG_WEIGHTS and IOUS must have an entry of each stage")
        if not head.CLS_AGNOSTIC_BBOX_REG:
            raise ValueError("CascadeROIHeads regresses one box for all classes: set CLS_AGNOSTIC_BBOX_REG True")
        if cascade.IOUS[0] != cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[0]:
            raise ValueError("ROI_BOX_CASCADE_HEAD.IOUS[0] must equal ROI_HEADS.IOU_THRESHOLDS[0]")

        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        side = head.POOLER_RESOLUTION
        pooled_shape = ShapeSpec(channels=common_channels(in_features, input_shape), height=side, width=side)
        box_heads, box_predictors, matchers = [], [], []
        for iou, weights in zip(cascade.IOUS, cascade.BBOX_REG_WEIGHTS):
            box_head = build_box_head(cfg, pooled_shape)
            box_heads.append(box_head)
            box_predictors.append(
                FastRCNNOutputLayers(cfg, box_head.output_shape, box2box_transform=Box2BoxTransform(weights=weights))
            )
            matchers.append(Matcher([iou], [0, 1], allow_low_quality_matches=False))
        return {
            "box_in_features": in_features,
            "box_pooler": build_pooler(head, in_features, input_shape),
            "box_heads": box_heads,
            "box_predictors": box_predictors,
            "proposal_matchers": matchers,
        }

    def forward(self, images, features, proposals, targets=None):
        """See :meth:`ROIHeads.forward`; in training the instances are the drawn proposals."""
        del images
        if not self.training:
            pred_instances = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, pred_instances), {}

        if targets is None:
            raise ValueError("CascadeROIHeads: training needs targets")
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, proposals, targets)
        losses.update(self._forward_mask(features, proposals))
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses

    def _forward_box(self, features: dict[str, torch.Tensor], proposals: list[Instances], targets=None):
        """All stages: a dict of losses in training, with `targets`; a list of Instances with `pred_boxes` otherwise."""
        feature_maps = [features[name] for name in self.box_in_features]
        image_sizes = [p.image_size for p in proposals]
        stages: list[tuple[Any, list[Instances]]] = []
        for stage in range(self.num_cascade_stages):
            if stage > 0:
                boxes = self.box_predictor[stage - 1].predict_boxes(*stages[-1])
                proposals = self._create_proposals_from_boxes(boxes, image_sizes)
                if self.training:
                    proposals = self._match_and_label_boxes(proposals, stage, targets)
            stages.append((self._run_stage(feature_maps, proposals, stage), proposals))

        if self.training:
            return self._stage_losses(stages)

        # every stage has scored the same boxes on their way: the scores are averaged, the last boxes stand
        probs = [predictor.predict_probs(*outputs) for predictor, outputs in zip(self.box_predictor, stages)]
        last = self.box_predictor[-1]
        pred_instances, _ = fast_rcnn_inference(
            last.predict_boxes(*stages[-1]),
            [sum(per_image) / self.num_cascade_stages for per_image in zip(*probs)],
            image_sizes,
            last.test_score_thresh,
            last.test_nms_thresh,
            last.test_topk_per_image,
        )
        return pred_instances

    def _stage_losses(self, stages) -> dict[str, torch.Tensor]:
        losses = {}
        storage = get_event_storage()
        for stage, (predictor, outputs) in enumerate(zip(self.box_predictor, stages)):
            with storage.name_scope(f"stage{stage}"):
                stage_losses = predictor.losses(*outputs)
            losses.update({f"{name}_stage{stage}": loss for name, loss in stage_losses.items()})
        return losses

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Match the boxes of a stage after the first with the objects; nothing is drawn, all boxes are kept.

        Returns:
            the same proposals with `gt_classes` and `gt_boxes` (zeros where the image has no objects).
        """
        num_fg, num_bg = 0.0, 0.0
        for per_image, targets_per_image in zip(proposals, targets):
            quality = pairwise_iou(targets_per_image.gt_boxes, per_image.proposal_boxes)
            objects, labels = self.proposal_matchers[stage](quality)
            if len(targets_per_image) > 0:
                classes = targets_per_image.gt_classes[objects]
                classes[labels == 0] = self.num_classes
                gt_boxes = targets_per_image.gt_boxes[objects]
            else:
                classes = torch.full_like(objects, self.num_classes)
                gt_boxes = Boxes(targets_per_image.gt_boxes.tensor.new_zeros((len(per_image), 4)))
            per_image.gt_classes = classes
            per_image.gt_boxes = gt_boxes
            num_foreground = (labels == 1).sum().item()
            num_fg += num_foreground
            num_bg += labels.numel() - num_foreground

        storage = get_event_storage()
        storage.put_scalar(f"stage{stage}/roi_head/num_fg_samples", num_fg / max(len(proposals), 1))
        storage.put_scalar(f"stage{stage}/roi_head/num_bg_samples", num_bg / max(len(proposals), 1))
        return proposals

    def _run_stage(self, features: list[torch.Tensor], proposals: list[Instances], stage: int):
        """The predictions of one stage for the proposals, as its predictor returns them."""
        box_features = self.box_pooler(features, [p.proposal_boxes for p in proposals])
        # every stage sends a gradient into the feature maps: they get the mean, not the sum
        if self.training:
            box_features = _ScaleGradient.apply(box_features, 1.0 / self.num_cascade_stages)
        return self.box_predictor[stage](self.box_head[stage](box_features))

    def _create_proposals_from_boxes(
        self, boxes: list[torch.Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Proposals of the next stage: the predicted boxes (Ri, 4), clipped; in training, empty ones are left out."""
        proposals = []
        for boxes_per_image, image_size in zip(boxes, image_sizes):
            clipped = Boxes(boxes_per_image.detach())
            clipped.clip(image_size)
            if self.training:
                clipped = clipped[clipped.nonempty()]
            per_image = Instances(image_size)
            per_image.proposal_boxes = clipped
            proposals.append(per_image)
        return proposals
