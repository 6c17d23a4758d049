"""Detectron2's box predictor with another loss of its class scores.

The layers, their names and what they predict stay those of `FastRCNNOutputLayers`, so weights go both ways. Shape
letters: R boxes of the whole batch, K foreground classes; class K is the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Instances
from detectron2.utils import comm
from rcnnkit.errors import UserError

from .class_losses import class_balanced_loss, class_balanced_weights, seesaw_log_factors, seesaw_loss

KEY = "MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE"


class ClassBalancedLoss(nn.Module):
    """See `class_balanced_loss`. The weights follow from the data and are not in checkpoints."""

    weights: torch.Tensor

    def __init__(self, counts: Sequence[int], beta: float):
        """
        Args:
            counts: (K,) objects of each class in the training data.
            beta: see `class_balanced_weights`.
        """
        super().__init__()
        self.register_buffer("weights", class_balanced_weights(torch.as_tensor(counts), beta), persistent=False)

    def forward(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(R, K + 1), (R,) → scalar."""
        return class_balanced_loss(logits, classes, self.weights)


class SeesawLoss(nn.Module):
    """See `seesaw_log_factors`; counts the boxes of each class that training has drawn, those of this call included.

    The counts are in checkpoints, so that a resumed training goes on with them; processes that train together have the
    same. In evaluation mode nothing is counted.
    """

    class_counts: torch.Tensor

    def __init__(self, num_classes: int, mitigation_power: float, compensation_power: float):
        """
        Args:
            num_classes: K.
            mitigation_power: p.
            compensation_power: q.
        """
        super().__init__()
        self.mitigation_power, self.compensation_power = mitigation_power, compensation_power
        self.register_buffer("class_counts", torch.zeros(num_classes, dtype=torch.int64))

    def forward(self, logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(R, K + 1), (R,) → scalar."""
        if self.training:
            self._count(classes)
        factors = seesaw_log_factors(logits, classes, self.class_counts, self.mitigation_power, self.compensation_power)
        return seesaw_loss(logits, classes, factors)

    @torch.no_grad()
    def _count(self, classes: torch.Tensor) -> None:
        num_classes = len(self.class_counts)
        seen = torch.bincount(classes, minlength=num_classes + 1)[:num_classes]
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(seen)
        self.class_counts += seen


class ClassLossOutputLayers(FastRCNNOutputLayers):
    """FastRCNNOutputLayers whose `loss_cls` is another one."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, class_loss: nn.Module, **arguments: Any):
        """
        Args:
            input_shape: of one box's feature.
            class_loss: (R, K + 1) logits and (R,) classes to a scalar.
            **arguments: those of FastRCNNOutputLayers.
        """
        super().__init__(input_shape, **arguments)
        self.class_loss = class_loss

    def losses(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """As of FastRCNNOutputLayers, `loss_cls` by `class_loss`."""
        losses = super().losses(predictions, proposals)
        logits = predictions[0]
        classes = cat([p.gt_classes for p in proposals]) if proposals else logits.new_zeros(0, dtype=torch.int64)
        return {**losses, "loss_cls": self.class_loss(logits, classes) * self.loss_weight.get("loss_cls", 1.0)}


def build_class_loss(cfg: CfgNode, class_counts: Sequence[int]) -> nn.Module:
    """The loss that MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE names, "class_balanced" or "seesaw".

    Args:
        class_counts: (K,) objects of each class in the training data; only the former reads them.
    """
    head = cfg.MODEL.ROI_BOX_HEAD
    if head.CLS_LOSS_TYPE == "class_balanced":
        return ClassBalancedLoss(class_counts, head.CLASS_BALANCED.BETA)
    own = head.SEESAW
    return SeesawLoss(cfg.MODEL.ROI_HEADS.NUM_CLASSES, own.MITIGATION_POWER, own.COMPENSATION_POWER)


def use_class_loss(model: nn.Module, cfg: CfgNode, class_counts: Sequence[int]) -> nn.Module:
    """Let the RoI heads of a model, Detectron2's or rcnnkit's, learn class scores by CLS_LOSS_TYPE.

    Their `box_predictor`, or that of each stage, is replaced by one with the same layers; "cross_entropy" leaves the
    model as it is.

    Args:
        model: built from `cfg`.
        class_counts: see `build_class_loss`.

    Returns:
        The same model.

    Raises:
        UserError: the model has no box predictor, or one that brings losses of its own.
    """
    kind = cfg.MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE
    if kind == "cross_entropy":
        return model
    roi_heads: Any = getattr(model, "roi_heads", None)
    predictor = getattr(roi_heads, "box_predictor", None)
    stages = predictor if isinstance(predictor, nn.ModuleList) else [predictor]
    for stage in stages:
        if type(stage) is not FastRCNNOutputLayers:
            raise UserError(
                f"{KEY}: {kind!r} is for RoI heads whose box predictor is FastRCNNOutputLayers, but that of "
                f"{type(roi_heads).__name__} is {type(stage).__name__}; set it to 'cross_entropy'"
            )
    replaced = [_build_with_loss(stage, cfg, build_class_loss(cfg, class_counts)) for stage in stages]
    roi_heads.box_predictor = nn.ModuleList(replaced) if isinstance(predictor, nn.ModuleList) else replaced[0]
    return model


def _build_with_loss(plain: Any, cfg: CfgNode, class_loss: nn.Module) -> ClassLossOutputLayers:
    shape = ShapeSpec(channels=plain.cls_score.in_features)
    # Without memory: its layers are those of the plain one.
    with torch.device("meta"):
        predictor = ClassLossOutputLayers(cfg, shape, class_loss=class_loss, box2box_transform=plain.box2box_transform)
    predictor.cls_score, predictor.bbox_pred = plain.cls_score, plain.bbox_pred
    predictor.class_loss.to(plain.cls_score.weight.device)
    return predictor.train(plain.training)
