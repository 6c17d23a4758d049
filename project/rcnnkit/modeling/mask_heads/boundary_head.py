"""A mask head that refines its masks from coarse to fine with features of a fine map.

Shape letters: N images, B boxes of the whole batch, C channels, K classes, P side of the pooled features, S side of a
stage's mask: P, 2 P, 4 P, 8 P.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from rcnnkit.errors import UserError
from rcnnkit.modeling.head_boxes import (
    boxes_of,
    build_box_pooler,
    classes_of,
    draw_boxes,
    drawn_rows,
    per_image,
    rows_of,
)

from .boundary_masks import band_loss, coarser, compose, finest_targets, refined_cells, whole_loss
from .boundary_stages import DetailBranch, OwnClassLogits, RefiningStage, convolution

DOUBLINGS = 3  # from P to 8 P
WHOLE_STAGES = 2  # the masks of P and 2 P are learnt whole, finer ones near the outline
STAGE_WEIGHTS = (0.25, 0.5, 0.75, 1.0)  # of the stages' losses, those of the paper's authors


class BoxesOfMaps(NamedTuple):
    """The boxes of a call.

    Attributes:
        instances: per image.
        pooled: (B, C, P, P).
        detail: (N, D, H, W), of the images.
        rows: (B, 5): number of the image, box in pixels.
        classes: (B,) int64.
    """

    instances: list[Instances]
    pooled: torch.Tensor
    detail: torch.Tensor
    rows: torch.Tensor
    classes: torch.Tensor


@ROI_MASK_HEAD_REGISTRY.register()
class BoundaryMaskHead(nn.Module):
    """Masks of 8 times the side of the pooled features, refined along their outline (RefineMask, CVPR 2021).

    Of that paper it leaves out the semantic segmentation of the image and its loss, and the dilated convolutions of the
    fusing modules, which cost time; its details come from a map of a smaller stride in their place.

    It pools features of its own, from the pyramid for the coarsest mask and from a detail map for the others, and so
    needs MODEL.ROI_MASK_HEAD.POOLER_TYPE "", with which Detectron2 hands over the feature maps by name.
    """

    @configurable
    def __init__(
        self,
        in_features: tuple[str, ...],
        pooler: ROIPooler,
        detail: DetailBranch,
        convolutions: nn.Sequential,
        logits: OwnClassLogits,
        stages: list[RefiningStage],
        *,
        band: int = 2,
        dice_weight: float = 0.0,
        loss_weight: float = 1.0,
        max_boxes: int = 0,
        max_fine_boxes: int = 0,
    ):
        """
        Args:
            in_features: names of the maps, finest first.
            pooler: of these maps, to P.
            detail: of the finest map.
            convolutions: over the pooled features.
            logits: of the coarsest mask.
            stages: that double its side.
            band: width of the band along an outline in which the next stage decides, cells.
            dice_weight: factor of the dice loss of the masks that are learnt whole.
            loss_weight: factor of the losses.
            max_boxes: most boxes to learn from, of all images together; 0: all.
            max_fine_boxes: of these, most to learn the masks from that are learnt near the outline; 0: all.
        """
        super().__init__()
        self.in_features = tuple(in_features)
        self.pooler = pooler
        self.detail = detail
        self.convolutions = convolutions
        self.logits = logits
        self.stages = nn.ModuleList(stages)
        self.band = band
        self.dice_weight = dice_weight
        self.loss_weight = loss_weight
        self.max_boxes = max_boxes
        self.max_fine_boxes = max_fine_boxes

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.ROI_MASK_HEAD
        own = head.BOUNDARY
        if not isinstance(input_shape, dict):
            hint = 'set MODEL.ROI_MASK_HEAD.POOLER_TYPE ""'
            if not head.POOLER_TYPE:
                hint = f"{cfg.MODEL.ROI_HEADS.NAME} hands over none; take an FPN and StandardROIHeads or TaskROIHeads"
            raise UserError(f"BoundaryMaskHead pools its features itself, from feature maps: {hint}")
        finest: Any = next(iter(input_shape.values()))
        doublings = round(math.log2(finest.stride / own.DETAIL_STRIDE))
        if doublings < 0 or finest.stride != own.DETAIL_STRIDE * 2**doublings:
            raise UserError(
                f"MODEL.ROI_MASK_HEAD.BOUNDARY.DETAIL_STRIDE: {own.DETAIL_STRIDE}; give {finest.stride}, the stride of "
                f"{next(iter(input_shape))}, or a half or quarter of it"
            )
        num_classes = 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES
        dims = [head.CONV_DIM // 2**number for number in range(DOUBLINGS + 1)]
        convolutions = [
            convolution(head.CONV_DIM if number else finest.channels, head.CONV_DIM, head.NORM)
            for number in range(head.NUM_CONV)
        ]
        return {
            "in_features": tuple(input_shape),
            "pooler": build_box_pooler(cfg, input_shape, head.POOLER_RESOLUTION),
            "detail": DetailBranch(finest.channels, own.DETAIL_DIM, doublings, head.NORM),
            "convolutions": nn.Sequential(*convolutions),
            "logits": OwnClassLogits(head.CONV_DIM, num_classes),
            "stages": [
                RefiningStage(
                    dims[number - 1],
                    own.DETAIL_DIM,
                    dims[number],
                    stride=own.DETAIL_STRIDE,
                    side=head.POOLER_RESOLUTION * 2**number,
                    num_classes=num_classes,
                    norm=head.NORM if number < WHOLE_STAGES else "",
                )
                for number in range(1, DOUBLINGS + 1)
            ],
            "band": own.BAND_WIDTH,
            "dice_weight": own.DICE_WEIGHT,
            "loss_weight": own.LOSS_WEIGHT,
            "max_boxes": cfg.RCNNKIT.MAX_MASK_ROIS,
            "max_fine_boxes": own.MAX_FINE_ROIS,
        }

    def forward(
        self, x: dict[str, torch.Tensor], instances: list[Instances]
    ) -> dict[str, torch.Tensor] | list[Instances]:
        """
        Args:
            x: feature maps by name, each (N, C, H, W).
            instances: per image; with `proposal_boxes`, `gt_classes` and `gt_masks` in training, with `pred_boxes` and
                `pred_classes` otherwise.

        Returns:
            in training losses by name, otherwise the instances with `pred_masks` (boxes, 1, 8 P, 8 P).
        """
        if self.training:
            return self._losses(self._boxes(x, draw_boxes(x, instances, self.max_boxes)[1]))[0]
        boxes = self._boxes(x, instances)
        features, logits = self._whole(boxes)
        logits += self._fine(features, logits[-1], boxes)
        masks = self._composed(logits)[:, None]
        for own, found in zip(instances, per_image(masks, instances), strict=True):
            own.pred_masks = found
        return instances

    def losses_and_masks(
        self, x: dict[str, torch.Tensor], instances: list[Instances]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The losses, and (B, 8 P, 8 P) probabilities of the true classes' masks without a gradient path.

        Boxes that the fine stages do not learn from are refined too, without gradients.
        """
        boxes = self._boxes(x, instances)
        losses, features, logits = self._losses(boxes)
        with torch.no_grad():
            return losses, self._composed(logits + self._fine(features, logits[-1], boxes))

    def _composed(self, logits: list[torch.Tensor]) -> torch.Tensor:
        """(B, 8 P, 8 P) probabilities, from the finest mask that is learnt whole on: it knows more than the one before.

        Args:
            logits: of all stages, coarsest first.
        """
        return compose([one.sigmoid() for one in logits[WHOLE_STAGES - 1 :]], self.band)

    def _boxes(self, x: dict[str, torch.Tensor], instances: list[Instances]) -> BoxesOfMaps:
        places = boxes_of(instances)
        return BoxesOfMaps(
            instances,
            # on a CPU the narrow convolutions over large masks take a third of the time in this layout
            self.pooler([x[name] for name in self.in_features], places).contiguous(memory_format=torch.channels_last),
            self.detail(x[self.in_features[0]]),
            rows_of(places),
            classes_of(instances),
        )

    def _whole(self, boxes: BoxesOfMaps) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features (B, C, 2 P, 2 P) of the finest mask that is learnt whole, and the logits of these masks."""
        features = self.convolutions(boxes.pooled)
        logits = [self.logits(features, boxes.classes)]
        for stage in self.stages[: WHOLE_STAGES - 1]:
            features, finer = stage(features, logits[-1], boxes.detail, boxes.rows, boxes.classes)
            logits.append(finer)
        return features, logits

    def _fine(self, features: torch.Tensor, logits: torch.Tensor, boxes: BoxesOfMaps) -> list[torch.Tensor]:
        """The logits of the finer masks, from features and logits of `_whole`."""
        fine = []
        for stage in self.stages[WHOLE_STAGES - 1 :]:
            features, logits = stage(features, logits, boxes.detail, boxes.rows, boxes.classes)
            fine.append(logits)
        return fine

    def _losses(self, boxes: BoxesOfMaps) -> tuple[dict[str, torch.Tensor], torch.Tensor, list[torch.Tensor]]:
        """Losses by name, and what `_whole` gives."""
        features, logits = self._whole(boxes)
        side = logits[0].shape[-1]
        targets = finest_targets(boxes.instances, side * 2**DOUBLINGS, features.device)
        coarse = torch.stack(
            [
                weight * whole_loss(one, coarser(targets, one.shape[-1]), self.dice_weight)
                for weight, one in zip(STAGE_WEIGHTS[:WHOLE_STAGES], logits, strict=True)
            ]
        )
        drawn = drawn_rows(len(targets), self.max_fine_boxes).to(features.device)
        chosen = boxes._replace(rows=boxes.rows[drawn], classes=boxes.classes[drawn])
        targets, before = targets[drawn], logits[-1][drawn]
        fine = []
        for weight, finer in zip(
            STAGE_WEIGHTS[WHOLE_STAGES:], self._fine(features[drawn], before, chosen), strict=True
        ):
            band = refined_cells(before.detach().sigmoid(), coarser(targets, before.shape[-1]), self.band)
            fine.append(weight * band_loss(finer, coarser(targets, finer.shape[-1]), band))
            before = finer
        losses = {"loss_mask": coarse.sum(), "loss_mask_boundary": torch.stack(fine).sum()}
        return {name: loss * self.loss_weight for name, loss in losses.items()}, features, logits
