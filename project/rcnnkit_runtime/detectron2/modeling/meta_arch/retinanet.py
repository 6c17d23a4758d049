"""RetinaNet (Lin et al., https://arxiv.org/abs/1708.02002): anchors classified by the focal loss.

Shape letters: N images, A anchors of a cell, Ri anchors of level i, R of all levels, K classes.
Anchor labels: a class in [0, K), K background, -1 ignored.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn import sigmoid_focal_loss
from torch import nn

from detectron2.config import configurable
from detectron2.layers import CycleBatchNormList, ShapeSpec, batched_nms, cat, get_norm
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.backbone import Backbone, build_backbone
from detectron2.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.build import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.dense_detector import DenseDetector, permute_to_N_HWA_K  # noqa: F401  importable from here in Detectron2, too
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage

__all__ = ["RetinaNet"]

# The number of foreground anchors that the loss is divided by is averaged over steps; it starts here.
_INITIAL_NORMALIZER = 100


@META_ARCH_REGISTRY.register()
class RetinaNet(DenseDetector):
    """Class scores and box deltas at every anchor of every level."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        num_classes: int,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: tuple[float, ...],
        pixel_std: tuple[float, ...],
        vis_period: int = 0,
        input_format: str = "BGR",
    ) -> None:
        """
        Args:
            backbone: makes the feature maps.
            head: maps the list of feature maps to class logits and deltas of each.
            head_in_features: names of the maps that the head reads.
            anchor_generator: makes the anchors of the maps.
            box2box_transform: encoding of boxes as deltas.
            anchor_matcher: labels anchors by their IoU with the objects.
            num_classes: K.
            focal_loss_alpha: weight of foreground; background weighs 1 − α.
            focal_loss_gamma: exponent by which easy anchors count less.
            smooth_l1_beta: where smooth L1 becomes linear; 0 for L1.
            box_reg_loss_type: ``smooth_l1``, ``giou``, ``diou`` or ``ciou``.
            test_score_thresh: only scores above it are detections.
            test_topk_candidates: at most so many candidates of each level before NMS.
            test_nms_thresh: IoU of the NMS within each class.
            max_detections_per_image: at most so many detections.
            pixel_mean, pixel_std, input_format, vis_period: see `GeneralizedRCNN`.
        """
        super().__init__(backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.anchor_matcher = anchor_matcher
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.smooth_l1_beta = smooth_l1_beta
        self.box_reg_loss_type = box_reg_loss_type
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.vis_period = vis_period
        self.input_format = input_format

    @classmethod
    def from_config(cls, cfg) -> dict:
        options = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        shapes = [backbone.output_shape()[name] for name in options.IN_FEATURES]
        return {
            "backbone": backbone,
            "head": RetinaNetHead(cfg, shapes),
            "head_in_features": options.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "box2box_transform": Box2BoxTransform(weights=options.BBOX_REG_WEIGHTS),
            "anchor_matcher": Matcher(options.IOU_THRESHOLDS, options.IOU_LABELS, allow_low_quality_matches=True),
            "num_classes": options.NUM_CLASSES,
            "focal_loss_alpha": options.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": options.FOCAL_LOSS_GAMMA,
            "smooth_l1_beta": options.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": options.BBOX_REG_LOSS_TYPE,
            "test_score_thresh": options.SCORE_THRESH_TEST,
            "test_topk_candidates": options.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": options.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "vis_period": cfg.VIS_PERIOD,
            "input_format": cfg.INPUT.FORMAT,
        }

    def forward(self, batched_inputs: list[dict[str, torch.Tensor]]):
        """See :meth:`DenseDetector.forward`; every `vis_period` steps the current detections are drawn."""
        outputs = super().forward(batched_inputs)
        if self.training and self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            with torch.no_grad():
                images = self.preprocess_image(batched_inputs)
                maps = self.backbone(images.tensor)
                features = [maps[name] for name in self.head_in_features]
                self.visualize_training(batched_inputs, self.forward_inference(images, features, self.head(features)))
        return outputs

    def forward_training(self, images: ImageList, features, predictions, gt_instances: list[Instances]):
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(anchors, logits, gt_labels, deltas, gt_boxes)

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            anchors: one per level, Ri.
            pred_logits: one per level, (N, Ri, K).
            gt_labels: one per image, (R,).
            pred_anchor_deltas: one per level, (N, Ri, 4).
            gt_boxes: one per image, (R, 4).

        Returns:
            ``loss_cls`` and ``loss_box_reg``, both divided by the average number of foreground anchors of a batch.
        """
        labels = torch.stack(gt_labels)
        foreground = (labels >= 0) & (labels != self.num_classes)
        num_foreground = foreground.sum().item()
        get_event_storage().put_scalar("num_pos_anchors", num_foreground / len(gt_labels))
        normalizer = self._ema_update("loss_normalizer", max(num_foreground, 1), _INITIAL_NORMALIZER)

        valid = labels >= 0
        targets = F.one_hot(labels[valid], num_classes=self.num_classes + 1)[:, :-1]
        logits = cat(pred_logits, dim=1)[valid]
        loss_cls = sigmoid_focal_loss(
            logits, targets.to(logits.dtype), alpha=self.focal_loss_alpha, gamma=self.focal_loss_gamma, reduction="sum"
        )
        loss_box_reg = _dense_box_regression_loss(
            anchors,
            self.box2box_transform,
            pred_anchor_deltas,
            gt_boxes,
            foreground,
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        return {"loss_cls": loss_cls / normalizer, "loss_box_reg": loss_box_reg / normalizer}

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Per image the (R,) labels of all anchors and the (R, 4) boxes matched, of no meaning off the foreground."""
        all_anchors = Boxes.cat(anchors)
        gt_labels, matched_boxes = [], []
        for per_image in gt_instances:
            objects, matches = self.anchor_matcher(pairwise_iou(per_image.gt_boxes, all_anchors))
            if len(per_image) > 0:
                labels = per_image.gt_classes[objects]
                labels[matches == 0] = self.num_classes
                labels[matches == -1] = -1
                matched_boxes.append(per_image.gt_boxes.tensor[objects])
            else:
                labels = torch.full_like(objects, self.num_classes)
                matched_boxes.append(torch.zeros_like(all_anchors.tensor))
            gt_labels.append(labels)
        return gt_labels, matched_boxes

    def forward_inference(self, images: ImageList, features: list[torch.Tensor], predictions) -> list[Instances]:
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        return [
            self.inference_single_image(
                anchors, [level[index].sigmoid() for level in logits], [level[index] for level in deltas], image_size
            )
            for index, image_size in enumerate(images.image_sizes)
        ]

    def inference_single_image(
        self,
        anchors: list[Boxes],
        box_cls: list[torch.Tensor],
        box_delta: list[torch.Tensor],
        image_size: tuple[int, int],
    ) -> Instances:
        """Detections of one image: `pred_boxes`, `scores`, `pred_classes`.

        Args:
            anchors: one per level, Ri.
            box_cls: one per level, (Ri, K) probabilities.
            box_delta: one per level, (Ri, 4).
            image_size: (height, width).
        """
        candidates = self._decode_multi_level_predictions(
            anchors, box_cls, box_delta, self.test_score_thresh, self.test_topk_candidates, image_size
        )
        keep = batched_nms(
            candidates.pred_boxes.tensor, candidates.scores, candidates.pred_classes, self.test_nms_thresh
        )
        return candidates[keep[: self.max_detections_per_image]]


class RetinaNetHead(nn.Module):
    """Two towers of 3×3 convolutions, for classes and for boxes, shared by all levels."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        conv_dims: list[int],
        norm: str = "",
        prior_prob: float = 0.01,
    ) -> None:
        """
        Args:
            input_shape: of each level; all have the same channels.
            num_classes: K.
            num_anchors: A.
            conv_dims: output channels of each convolution of a tower.
            norm: norm after each of them. Batch norms keep statistics of each level for itself.
            prior_prob: foreground probability that the class logits start with.
        """
        super().__init__()
        self._num_levels = len(input_shape)
        self.cls_subnet = nn.Sequential(*self._tower(input_shape, conv_dims, norm))
        self.bbox_subnet = nn.Sequential(*self._tower(input_shape, conv_dims, norm))
        self.cls_score = nn.Conv2d(conv_dims[-1], num_anchors * num_classes, kernel_size=3, stride=1, padding=1)
        self.bbox_pred = nn.Conv2d(conv_dims[-1], num_anchors * 4, kernel_size=3, stride=1, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, mean=0, std=0.01)
                nn.init.zeros_(module.bias)
        prior: Any = self.cls_score.bias
        nn.init.constant_(prior, -math.log((1 - prior_prob) / prior_prob))

    @staticmethod
    def _tower(input_shape: list[ShapeSpec], conv_dims: list[int], norm: str) -> Iterator[nn.Module]:
        channels = input_shape[0].channels
        for dim in conv_dims:
            yield nn.Conv2d(channels, dim, kernel_size=3, stride=1, padding=1)  # type: ignore[arg-type]
            if norm in ("BN", "SyncBN"):
                bn_class = nn.BatchNorm2d if norm == "BN" else nn.SyncBatchNorm
                yield CycleBatchNormList(len(input_shape), bn_class=bn_class, num_features=dim)
            elif norm:
                yield get_norm(norm, dim)  # type: ignore[misc]
            yield nn.ReLU()
            channels = dim

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        num_anchors: Any = build_anchor_generator(cfg, input_shape).num_cell_anchors
        assert len(set(num_anchors)) == 1, f"RetinaNetHead is shared by all levels, but their anchors are {num_anchors}"
        options = cfg.MODEL.RETINANET
        return {
            "input_shape": input_shape,
            "num_classes": options.NUM_CLASSES,
            "conv_dims": [input_shape[0].channels] * options.NUM_CONVS,
            "prior_prob": options.PRIOR_PROB,
            "norm": options.NORM,
            "num_anchors": num_anchors[0],
        }

    def forward(self, features: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Per level, class logits (N, A·K, Hi, Wi) and deltas (N, A·4, Hi, Wi)."""
        assert len(features) == self._num_levels, f"RetinaNetHead: {self._num_levels} levels, got {len(features)}"
        logits = [self.cls_score(self.cls_subnet(feature)) for feature in features]
        deltas = [self.bbox_pred(self.bbox_subnet(feature)) for feature in features]
        return logits, deltas
