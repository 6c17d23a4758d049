"""Region proposal network (Ren et al., Faster R-CNN, section 3.1; on pyramids as in Lin et al., FPN, section 4.1).

Shapes:
    N: number of images
    L: number of feature levels
    A: number of anchors per cell
    Hi, Wi: size of feature map i
    R: number of anchors of all levels together, sum of Hi*Wi*A
    B: number of values of a box, 4

Names:
    pred_objectness_logits: how sure the network is that an anchor holds an object
    pred_anchor_deltas: encoded shift from anchor to object
    gt_labels: 1 object, 0 background, -1 not used
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, cat
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator.proposal_utils import (
    find_top_rpn_proposals,
    select_top_candidates,
    suppress_and_rank_proposals,
)
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry

# Projects put their own function in the place of the imported name.
_OWN_FIND_TOP_RPN_PROPOSALS = find_top_rpn_proposals

RPN_HEAD_REGISTRY = Registry("RPN_HEAD")
RPN_HEAD_REGISTRY.__doc__ = """
RPN heads, called as ``head(cfg, input_shape)`` with a ``CfgNode`` and a list of ``ShapeSpec``; the forward turns
feature maps into objectness logits and anchor deltas.
"""


def build_rpn_head(cfg, input_shape: list[ShapeSpec]) -> nn.Module:
    """The RPN head named by ``cfg.MODEL.RPN.HEAD_NAME``."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions, then a 1x1 convolution for the logits and one for the deltas; shared by all levels."""

    @configurable
    def __init__(
        self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims: list[int] | tuple = (-1,)
    ) -> None:
        """
        Args:
            in_channels: of every feature map.
            num_anchors: per cell, the same on every map.
            box_dim: values per box.
            conv_dims: output channels of the hidden convolutions, -1 for as many as the input has.
        """
        super().__init__()
        channels = in_channels
        convs = []
        for conv_dim in conv_dims:
            out_channels = channels if conv_dim == -1 else conv_dim
            assert out_channels > 0, f"the convolutions of the RPN head need positive widths, got {list(conv_dims)}"
            convs.append(self._get_rpn_conv(channels, out_channels))
            channels = out_channels
        assert convs, "the RPN head needs at least one hidden convolution, conv_dims is empty"
        # The single convolution is unnamed in checkpoints: "conv.weight", not "conv.conv0.weight".
        self.conv: nn.Module = convs[0]
        if len(convs) > 1:
            self.conv = nn.Sequential()
            for index, conv in enumerate(convs):
                self.conv.add_module(f"conv{index}", conv)
        self.objectness_logits = nn.Conv2d(channels, num_anchors, kernel_size=1, stride=1)
        self.anchor_deltas = nn.Conv2d(channels, num_anchors * box_dim, kernel_size=1, stride=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(cast(torch.Tensor, layer.bias))

    def _get_rpn_conv(self, in_channels: int, out_channels: int) -> nn.Module:
        return Conv2d(in_channels, out_channels, kernel_size=3, stride=1, padding=1, activation=nn.ReLU())

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        in_channels = {cast(int, shape.channels) for shape in input_shape}
        assert len(in_channels) == 1, f"Each level must have the same channel! Got {sorted(in_channels)}"
        # Only the generator knows how many anchors a cell has.
        anchor_generator = build_anchor_generator(cfg, input_shape)
        num_anchors = set(cast(list[int], anchor_generator.num_anchors))
        assert len(num_anchors) == 1, (
            f"Each level must have the same number of anchors per spatial position: {num_anchors}"
        )
        return {
            "in_channels": in_channels.pop(),
            "num_anchors": num_anchors.pop(),
            "box_dim": anchor_generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """L maps (N, C, Hi, Wi) to L logits (N, A, Hi, Wi) and L deltas (N, A*B, Hi, Wi)."""
        pred_objectness_logits = []
        pred_anchor_deltas = []
        for feature in features:
            hidden = self.conv(feature)
            pred_objectness_logits.append(self.objectness_logits(hidden))
            pred_anchor_deltas.append(self.anchor_deltas(hidden))
        return pred_objectness_logits, pred_anchor_deltas


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Scores and shifts anchors, and returns the best as proposals."""

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: int = -1,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ) -> None:
        """
        Args:
            in_features: names of the feature maps.
            head: predicts logits and deltas from a list of feature maps.
            anchor_generator: makes anchors from a list of feature maps.
            anchor_matcher: labels anchors by their IoU with ground truth.
            box2box_transform: codec between anchors and boxes.
            batch_size_per_image: number of anchors of an image that enter the loss.
            positive_fraction: largest share of positives among them.
            pre_nms_topk: candidates per level that enter NMS, (training, testing).
            post_nms_topk: proposals per image that leave NMS, (training, testing).
            nms_thresh: IoU threshold of NMS.
            min_box_size: smallest side of a proposal, in pixels of the network's input.
            anchor_boundary_thresh: anchors that reach further than this many pixels over the image are not trained on;
                negative to use all.
            loss_weight: one factor, or one for each of ``loss_rpn_cls`` and ``loss_rpn_loc``.
            box_reg_loss_type: ``smooth_l1``, ``giou``, ``diou`` or ``ciou``.
            smooth_l1_beta: where smooth L1 becomes linear; 0 for L1.
        """
        super().__init__()
        self.in_features = in_features
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        # By self.training.
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = loss_weight
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        options = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in options.IN_FEATURES]
        return {
            "in_features": options.IN_FEATURES,
            "head": build_rpn_head(cfg, shapes),
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(options.IOU_THRESHOLDS, options.IOU_LABELS, allow_low_quality_matches=True),
            "box2box_transform": Box2BoxTransform(weights=options.BBOX_REG_WEIGHTS),
            "batch_size_per_image": options.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": options.POSITIVE_FRACTION,
            "pre_nms_topk": (options.PRE_NMS_TOPK_TRAIN, options.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (options.POST_NMS_TOPK_TRAIN, options.POST_NMS_TOPK_TEST),
            "nms_thresh": options.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": options.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": options.LOSS_WEIGHT,
                "loss_rpn_loc": options.BBOX_REG_LOSS_WEIGHT * options.LOSS_WEIGHT,
            },
            "box_reg_loss_type": options.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": options.SMOOTH_L1_BETA,
        }

    def _subsample_labels(self, label: torch.Tensor) -> torch.Tensor:
        """Keeps the labels of a random sample of (R,) labels and sets the others to -1, in place."""
        positive, negative = subsample_labels(label, self.batch_size_per_image, self.positive_fraction, 0)
        label.fill_(-1)
        label[positive] = 1
        label[negative] = 0
        return label

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """
        Args:
            anchors: one per level.
            gt_instances: one per image, with ``gt_boxes``.

        Returns:
            Per image the (R,) int8 labels and the (R, 4) boxes matched; those of labels other than 1 mean nothing.
        """
        all_anchors = Boxes.cat(anchors)
        gt_labels = []
        matched_gt_boxes = []
        for image_instances in gt_instances:
            gt_boxes = image_instances.gt_boxes
            quality = retry_if_cuda_oom(pairwise_iou)(gt_boxes, all_anchors)
            matches, labels = retry_if_cuda_oom(self.anchor_matcher)(quality)
            # The quality matrix is the largest tensor here; free it before the next image needs its own.
            del quality
            labels = labels.to(device=gt_boxes.device)
            if self.anchor_boundary_thresh >= 0:
                inside = all_anchors.inside_box(image_instances.image_size, self.anchor_boundary_thresh)
                labels[~inside] = -1
            gt_labels.append(self._subsample_labels(labels))
            if len(gt_boxes) == 0:
                matched_gt_boxes.append(torch.zeros_like(all_anchors.tensor))
            else:
                matched_gt_boxes.append(gt_boxes.tensor[matches])
        return gt_labels, matched_gt_boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            anchors: one per level, (Hi*Wi*A, B).
            pred_objectness_logits: one per level, (N, Hi*Wi*A).
            gt_labels: one per image, (R,).
            pred_anchor_deltas: one per level, (N, Hi*Wi*A, B).
            gt_boxes: one per image, (R, B).

        Returns:
            ``loss_rpn_cls`` and ``loss_rpn_loc``, each divided by the number of anchors that a batch samples.
        """
        num_images = len(gt_labels)
        labels = torch.stack(gt_labels)
        positive = labels == 1
        storage = get_event_storage()
        storage.put_scalar("rpn/num_pos_anchors", positive.sum().item() / num_images)
        storage.put_scalar("rpn/num_neg_anchors", (labels == 0).sum().item() / num_images)

        loss_loc = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            positive,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        sampled = labels >= 0
        loss_cls = F.binary_cross_entropy_with_logits(
            cat(pred_objectness_logits, dim=1)[sampled], labels[sampled].to(torch.float32), reduction="sum"
        )
        normalizer = self.batch_size_per_image * num_images
        losses = {"loss_rpn_cls": loss_cls / normalizer, "loss_rpn_loc": loss_loc / normalizer}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """
        Args:
            images: the N input images; only their sizes are read.
            features: maps by name.
            gt_instances: one per image, needed in training.

        Returns:
            Per image ``Instances`` with ``proposal_boxes`` and ``objectness_logits``; the losses, none in inference.
        """
        level_features = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(level_features)
        logits, deltas = self.rpn_head(level_features)
        # (N, A, Hi, Wi) -> (N, Hi*Wi*A) and (N, A*B, Hi, Wi) -> (N, Hi*Wi*A, B): the order of the anchors.
        box_dim = self.anchor_generator.box_dim
        pred_objectness_logits = [level.permute(0, 2, 3, 1).flatten(1) for level in logits]
        pred_anchor_deltas = [
            level.view(level.shape[0], -1, box_dim, level.shape[-2], level.shape[-1])
            .permute(0, 3, 4, 1, 2)
            .flatten(1, -2)
            for level in deltas
        ]

        losses: dict[str, torch.Tensor] = {}
        if self.training:
            assert gt_instances is not None, "RPN requires gt_instances in training!"
            gt_labels, gt_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes)
        proposals = self.predict_proposals(anchors, pred_objectness_logits, pred_anchor_deltas, images.image_sizes)
        return proposals, losses

    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decodes the predictions and picks the proposals; arguments as in ``losses``, sizes are (height, width).

        Gradients stop here: proposals are constants to the RoI heads.
        """
        with torch.no_grad():
            if not self._may_choose_before_decoding():
                return find_top_rpn_proposals(
                    self._decode_proposals(anchors, pred_anchor_deltas),
                    pred_objectness_logits,
                    image_sizes,
                    self.nms_thresh,
                    self.pre_nms_topk[self.training],
                    self.post_nms_topk[self.training],
                    self.min_box_size,
                    self.training,
                )
            logits, indices = select_top_candidates(pred_objectness_logits, self.pre_nms_topk[self.training])
            # Candidates are chosen by logit alone, so only these need decoding: a few of a hundred thousand.
            top_anchors = [type(level)(level.tensor[index.flatten()]) for level, index in zip(anchors, indices)]
            top_deltas = [
                level.detach().gather(1, index.unsqueeze(-1).expand(-1, -1, level.shape[-1])).flatten(0, 1).unsqueeze(0)
                for level, index in zip(pred_anchor_deltas, indices)
            ]
            boxes = [
                level.view(*index.shape, -1)
                for level, index in zip(self._decode_proposals(top_anchors, top_deltas), indices)
            ]
            return suppress_and_rank_proposals(
                boxes,
                [level.detach() for level in logits],
                image_sizes,
                self.nms_thresh,
                self.post_nms_topk[self.training],
                self.min_box_size,
                self.training,
            )

    def _may_choose_before_decoding(self) -> bool:
        """Whether both steps are this module's own: one replaced from outside gets all anchors, as it may expect."""
        return (
            type(self)._decode_proposals is RPN._decode_proposals
            and "_decode_proposals" not in vars(self)
            and find_top_rpn_proposals is _OWN_FIND_TOP_RPN_PROPOSALS
        )

    def _decode_proposals(self, anchors: list[Boxes], pred_anchor_deltas: list[torch.Tensor]) -> list[torch.Tensor]:
        """
        Args:
            anchors: one per level, (Ri, B).
            pred_anchor_deltas: one per level, (N, Ri, B).

        Returns:
            One per level, (N, Ri, B) decoded boxes.
        """
        proposals = []
        for level_anchors, deltas in zip(anchors, pred_anchor_deltas):
            num_images, _, box_dim = deltas.shape
            expanded = level_anchors.tensor.unsqueeze(0).expand(num_images, -1, -1).reshape(-1, box_dim)
            decoded = self.box2box_transform.apply_deltas(deltas.reshape(-1, box_dim), expanded)
            proposals.append(decoded.view(num_images, -1, box_dim))
        return proposals
