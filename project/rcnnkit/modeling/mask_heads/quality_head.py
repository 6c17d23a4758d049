"""A mask head that judges the masks of another one.

Shape letters: B boxes of the whole batch, C channels, K classes, P side of the pooled features, S of the masks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import nn

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, BaseMaskRCNNHead, MaskRCNNConvUpsampleHead
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import Instances
from rcnnkit.errors import UserError, nearest
from rcnnkit.modeling.head_boxes import Features, boxes_of, build_box_pooler, classes_of, draw_boxes

from .mask_quality import own_class, quality_loss, quality_targets, set_mask_scores

PLAIN_FORWARDS = (BaseMaskRCNNHead.forward, MaskRCNNConvUpsampleHead.forward)


def losses_and_masks(
    head: Any, features: Any, instances: list[Instances]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The losses of a mask head, and the masks that it predicts for the true classes.

    A head may bring a method of this name, which returns both; of Detectron2's own ones the logits are at hand; any
    other is called a second time, for its predictions on these boxes, without gradients.

    Returns:
        losses by name, and (B, S, S) probabilities without a gradient path.
    """
    if hasattr(head, "losses_and_masks"):
        return head.losses_and_masks(features, instances)
    if isinstance(head, BaseMaskRCNNHead) and type(head).forward in PLAIN_FORWARDS:
        logits = head.layers(features)
        loss = mask_rcnn_loss(logits, instances, head.vis_period) * head.loss_weight
        classes = classes_of(instances) if logits.shape[1] > 1 else logits.new_zeros(len(logits), dtype=torch.int64)
        return {"loss_mask": loss}, logits.detach()[torch.arange(len(logits), device=classes.device), classes].sigmoid()
    losses = head(features, instances)
    return losses, predicted_masks(head, features, instances)


@torch.no_grad()
def predicted_masks(head: nn.Module, features: Features, instances: list[Instances]) -> torch.Tensor:
    """(B, S, S): what a head in training would predict for the true classes in inference."""
    as_detected = [
        Instances(p.image_size, pred_boxes=p.proposal_boxes, pred_classes=p.gt_classes.long()) for p in instances
    ]
    modes = {module: module.training for module in head.modules()}
    head.eval()
    try:
        return torch.cat([p.pred_masks for p in head(features, as_detected)])[:, 0]
    finally:
        for module, training in modes.items():
            module.training = training


class QualityPredictor(nn.Module):
    """Convolutions over features and mask, then linear layers to one IoU for each class: the paper's MaskIoU head."""

    def __init__(self, channels: int, side: int, *, num_classes: int, num_conv: int, conv_dim: int, fc_dim: int):
        """
        Args:
            channels: C.
            side: P.
            num_classes: K.
            num_conv: number of convolutions, at least 1; the last has stride 2.
            conv_dim: their channels.
            fc_dim: channels of the two linear layers before the last.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(num_conv):
            stride = 2 if number == num_conv - 1 else 1
            own = channels + 1 if number == 0 else conv_dim
            layers.append(Conv2d(own, conv_dim, 3, stride=stride, padding=1, activation=F.relu))
            c2_msra_fill(layers[-1])
        self.convolutions = nn.Sequential(*layers)
        flat = conv_dim * ((side + 1) // 2) ** 2
        self.linear = nn.Sequential(nn.Linear(flat, fc_dim), nn.ReLU(), nn.Linear(fc_dim, fc_dim), nn.ReLU())
        c2_xavier_fill(self.linear[0])
        c2_xavier_fill(self.linear[2])
        self.iou = nn.Linear(fc_dim, num_classes)
        nn.init.normal_(self.iou.weight, std=0.01)
        nn.init.zeros_(self.iou.bias)

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features: (B, C, P, P).
            masks: (B, S, S) probabilities.

        Returns:
            (B, K), at least float32, not limited to 0 … 1.
        """
        # max pooling keeps thin parts of the mask, as the paper's does
        small = F.adaptive_max_pool2d(masks[:, None], features.shape[-2:]).to(features.dtype)
        x = self.convolutions(torch.cat([features, small], dim=1))
        return self.iou(self.linear(x.flatten(1))).float()


@ROI_MASK_HEAD_REGISTRY.register()
class MaskQualityHead(nn.Module):
    """Any mask head, and a prediction of the IoU that its masks have (Mask Scoring R-CNN, Huang et al., CVPR 2019).

    In training `forward` returns the losses of that head and `loss_mask_quality`. In inference the instances have its
    `pred_masks`, `pred_mask_quality` (boxes,), and `mask_scores`: the score times the quality. `scores`, by which boxes
    are ranked, stay as they are, and with them the AP of boxes; rcnnkit's evaluator ranks masks by `mask_scores`.
    A checkpoint of that head alone loads into this one.
    """

    @configurable
    def __init__(
        self,
        mask_head: nn.Module,
        predictor: QualityPredictor,
        *,
        pooler: ROIPooler | None = None,
        in_features: tuple[str, ...] = (),
        loss_weight: float = 1.0,
        max_boxes: int = 0,
    ):
        """
        Args:
            mask_head: called with features and Instances, as Detectron2's are.
            predictor: of the IoU.
            pooler: where the mask head takes feature maps by name, pools them for the predictor.
            in_features: names of these maps.
            loss_weight: factor of the predictor's loss.
            max_boxes: most boxes to learn from, of all images together; 0: all.
        """
        super().__init__()
        self.mask_head = mask_head
        self.quality = predictor
        self.pooler = pooler
        self.in_features = tuple(in_features)
        self.loss_weight = loss_weight
        self.max_boxes = max_boxes
        self._register_load_state_dict_pre_hook(self._take_plain_weights)

    @classmethod
    def from_config(cls, cfg: Any, input_shape: ShapeSpec | dict[str, ShapeSpec]) -> dict[str, Any]:
        own = cfg.MODEL.ROI_MASK_HEAD.QUALITY
        if own.MASK_HEAD not in ROI_MASK_HEAD_REGISTRY:
            known = [name for name, _ in ROI_MASK_HEAD_REGISTRY]
            raise UserError(
                f"MODEL.ROI_MASK_HEAD.QUALITY.MASK_HEAD: no mask head {own.MASK_HEAD!r}; nearest: "
                f"{', '.join(nearest(own.MASK_HEAD, known))}"
            )
        maps = input_shape if isinstance(input_shape, dict) else {}
        shape: Any = next(iter(maps.values())) if maps else input_shape
        side = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION if maps else shape.height
        if cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
            side = (side + 1) // 2  # the shape is that of the pooled features, the head gets what res5 makes of them
        return {
            "mask_head": ROI_MASK_HEAD_REGISTRY.get(own.MASK_HEAD)(cfg, input_shape),
            "predictor": QualityPredictor(
                shape.channels,
                side,
                num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
                num_conv=own.NUM_CONV,
                conv_dim=own.CONV_DIM,
                fc_dim=own.FC_DIM,
            ),
            "pooler": build_box_pooler(cfg, maps, side) if maps else None,
            "in_features": tuple(maps),
            "loss_weight": own.LOSS_WEIGHT,
            "max_boxes": cfg.RCNNKIT.MAX_MASK_ROIS,
        }

    def forward(self, x: Features, instances: list[Instances]) -> dict[str, torch.Tensor] | list[Instances]:
        """
        Args:
            x: features of the boxes of all images (B, C, P, P), or feature maps by name.
            instances: per image; with `proposal_boxes`, `gt_classes` and `gt_masks` in training, with `pred_boxes`,
                `pred_classes` and `scores` otherwise.
        """
        if not self.training:
            instances = self.mask_head(x, instances)
            masks = torch.cat([p.pred_masks for p in instances])[:, 0]
            quality = self.quality(self._pooled(x, instances), masks)
            set_mask_scores(instances, own_class(quality, classes_of(instances)))
            return instances
        x, instances = draw_boxes(x, instances, self.max_boxes)
        losses, masks = losses_and_masks(self.mask_head, x, instances)
        quality = self.quality(self._pooled(x, instances), masks)
        loss = quality_loss(quality, quality_targets(masks, instances), classes_of(instances))
        return {**losses, "loss_mask_quality": loss * self.loss_weight}

    def _pooled(self, x: Features, instances: list[Instances]) -> torch.Tensor:
        if isinstance(x, torch.Tensor):
            return x
        if self.pooler is None:
            raise TypeError("MaskQualityHead: built for pooled features, but called with feature maps")
        return self.pooler([x[name] for name in self.in_features], boxes_of(instances))

    def _take_plain_weights(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Let the weights of the mask head alone be found under its name here; those of another shape are left."""
        own = self.mask_head.state_dict()
        for key in [key for key in state if key.startswith(prefix)]:
            rest = key[len(prefix) :]
            if rest in own and own[rest].shape == state[key].shape:
                state[f"{prefix}mask_head.{rest}"] = state.pop(key)
