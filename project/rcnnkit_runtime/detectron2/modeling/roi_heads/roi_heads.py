"""RoI heads: everything that a detector computes per box.

Shape letters: N images, Ri boxes of image i, Gi objects of image i, K foreground classes; class K is the background.
Boxes are absolute pixels XYXY. Name prefixes: gt_ truth, pred_ predicted.
"""

from typing import Any

import torch
from torch import nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, cat, nonzero_tuple
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads.box_head import build_box_head
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.keypoint_head import build_keypoint_head
from detectron2.modeling.roi_heads.mask_head import build_mask_head
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = """
RoI heads, chosen by MODEL.ROI_HEADS.NAME: called as `heads(cfg, input_shape)`, they take images, feature maps and
proposals, with targets in training, and return instances and a dict of losses.
"""


def build_roi_heads(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The RoI heads that MODEL.ROI_HEADS.NAME names, for feature maps of the given shapes."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Per image, the proposals whose `gt_classes` is neither background nor -1 (ignored), and their (Ri,) bool mask."""
    if not isinstance(proposals, list | tuple) or not all(p.has("gt_classes") for p in proposals):
        raise ValueError("select_foreground_proposals: needs a list of Instances with gt_classes")
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    return [p[nonzero_tuple(mask)[0]] for p, mask in zip(proposals, masks)], masks


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """Per image, the proposals with at least one annotated keypoint inside the proposal box.

    The others have nothing to learn from. `proposals` carry `proposal_boxes` and `gt_keypoints`; an image's Instances
    that are empty stay as they are.
    """
    selected, counts = [], []
    for per_image in proposals:
        if len(per_image) == 0:
            selected.append(per_image)
            continue
        x, y, visibility = per_image.gt_keypoints.tensor.unbind(dim=2)
        x0, y0, x1, y1 = per_image.proposal_boxes.tensor[:, :, None].unbind(dim=1)
        inside = (visibility >= 1) & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        rows = nonzero_tuple(inside.any(dim=1))[0]
        selected.append(per_image[rows])
        counts.append(len(rows))
    get_event_storage().put_scalar("keypoint_head/num_fg_samples", sum(counts) / max(len(counts), 1))
    return selected


class ROIHeads(nn.Module):
    """What all RoI heads share: matching proposals with the objects and drawing the training sample."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ):
        """
        Args:
            num_classes: K.
            batch_size_per_image: number of proposals drawn from each image in training.
            positive_fraction: share of foreground among them, at most.
            proposal_matcher: matches proposals with objects by IoU.
            proposal_append_gt: whether the objects' own boxes join the proposals before the draw.
        """
        super().__init__()
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.num_classes = num_classes
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        heads = cfg.MODEL.ROI_HEADS
        return {
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "num_classes": heads.NUM_CLASSES,
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
            "proposal_matcher": Matcher(heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False),
        }

    def _sample_proposals(
        self, matched_idxs: torch.Tensor, matched_labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one image's training sample.

        Args:
            matched_idxs: (Ri,), the object in [0, Gi) that each proposal matches best.
            matched_labels: (Ri,), 1 foreground, 0 background, -1 ignored.
            gt_classes: (Gi,)

        Returns:
            indices of the drawn proposals, foreground first, and the class of each: K for background.
        """
        if gt_classes.numel() > 0:
            classes = gt_classes[matched_idxs]
            classes[matched_labels == 0] = self.num_classes
            classes[matched_labels == -1] = -1
        else:
            classes = torch.full_like(matched_idxs, self.num_classes)
        drawn = cat(subsample_labels(classes, self.batch_size_per_image, self.positive_fraction, self.num_classes))
        return drawn, classes[drawn]

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """Draw the training sample of each image and give it the truth of the objects that it matches.

        Args:
            proposals: per image, Instances with `proposal_boxes`, and `objectness_logits` where they come from an RPN.
            targets: per image, Instances with `gt_boxes`, `gt_classes` and any other `gt_*` field.

        Returns:
            per image, the drawn proposals with `gt_classes` (K for background) and, where the image has objects, every
            `gt_*` field of the matched object (of no meaning for background).
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)

        sampled = []
        num_fg, num_bg = 0.0, 0.0
        for proposals_per_image, targets_per_image in zip(proposals, targets):
            quality = pairwise_iou(targets_per_image.gt_boxes, proposals_per_image.proposal_boxes)
            matched_idxs, matched_labels = self.proposal_matcher(quality)
            drawn, classes = self._sample_proposals(matched_idxs, matched_labels, targets_per_image.gt_classes)

            drawn_proposals = proposals_per_image[drawn]
            drawn_proposals.gt_classes = classes
            if len(targets_per_image) > 0:
                objects = matched_idxs[drawn]
                for name, value in targets_per_image.get_fields().items():
                    if name.startswith("gt_") and not drawn_proposals.has(name):
                        drawn_proposals.set(name, value[objects])
            num_background = (classes == self.num_classes).sum().item()
            num_bg += num_background
            num_fg += classes.numel() - num_background
            sampled.append(drawn_proposals)

        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", num_fg / max(len(sampled), 1))
        storage.put_scalar("roi_head/num_bg_samples", num_bg / max(len(sampled), 1))
        return sampled

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """
        Args:
            images: the N images.
            features: feature maps by name, each (N, C, H, W).
            proposals: per image, Instances with `proposal_boxes`.
            targets: in training, per image, Instances with `gt_boxes`, `gt_classes` and what else the heads learn.

        Returns:
            per image, Instances with `pred_*` fields (in training: the drawn proposals or nothing), and the losses,
            empty in inference.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(images, features, proposals, targets)")


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
        ret["pooler"] = ROIPooler(
            output_size=head.POOLER_RESOLUTION,
            scales=_scales(in_features, input_shape),
            sampling_ratio=head.POOLER_SAMPLING_RATIO,
            pooler_type=head.POOLER_TYPE,
        )

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
        _check_given_boxes(self, instances)
        if not self.mask_on:
            return instances
        feature_maps = [features[name] for name in self.in_features]
        return self.mask_head(self._shared_roi_transform(feature_maps, [p.pred_boxes for p in instances]), instances)


def _check_given_boxes(heads: ROIHeads, instances: list[Instances]) -> None:
    name = type(heads).__name__
    if heads.training:
        raise RuntimeError(f"{name}.forward_with_given_boxes is for inference: call eval() first")
    if instances and not (instances[0].has("pred_boxes") and instances[0].has("pred_classes")):
        raise ValueError(f"{name}.forward_with_given_boxes: instances need pred_boxes and pred_classes")


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
        pooler = _build_pooler(head, in_features, input_shape)
        box_head = build_box_head(
            cfg, ShapeSpec(channels=_common_channels(in_features, input_shape), height=side, width=side)
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
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = _build_branch_pooler(cfg.MODEL.ROI_MASK_HEAD, in_features, input_shape)
        return {
            "mask_in_features": in_features,
            "mask_pooler": pooler,
            "mask_head": build_mask_head(cfg, shape),
        }

    @classmethod
    def _init_keypoint_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = _build_branch_pooler(cfg.MODEL.ROI_KEYPOINT_HEAD, in_features, input_shape)
        return {
            "keypoint_in_features": in_features,
            "keypoint_pooler": pooler,
            "keypoint_head": build_keypoint_head(cfg, shape),
        }

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
        _check_given_boxes(self, instances)
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


def _scales(in_features: list[str], input_shape: dict[str, Any]) -> tuple[float, ...]:
    return tuple(1.0 / input_shape[name].stride for name in in_features)


def _common_channels(in_features: list[str], input_shape: dict[str, Any]) -> int:
    channels = {name: input_shape[name].channels for name in in_features}
    if len(set(channels.values())) != 1:
        raise ValueError(f"The feature maps of the RoI heads must have equally many channels, got {channels}")
    return channels[in_features[0]]


def _build_pooler(head_cfg, in_features: list[str], input_shape: dict[str, ShapeSpec]) -> ROIPooler:
    return ROIPooler(
        output_size=head_cfg.POOLER_RESOLUTION,
        scales=_scales(in_features, input_shape),
        sampling_ratio=head_cfg.POOLER_SAMPLING_RATIO,
        pooler_type=head_cfg.POOLER_TYPE,
    )


def _build_branch_pooler(head_cfg, in_features: list[str], input_shape: dict[str, ShapeSpec]):
    """Pooler and input shape of a mask or keypoint head; an empty POOLER_TYPE hands the head the feature maps."""
    if not head_cfg.POOLER_TYPE:
        return None, {name: input_shape[name] for name in in_features}
    side = head_cfg.POOLER_RESOLUTION
    channels = _common_channels(in_features, input_shape)
    return _build_pooler(head_cfg, in_features, input_shape), ShapeSpec(channels=channels, width=side, height=side)
