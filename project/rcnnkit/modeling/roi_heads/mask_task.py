"""Masks, by the head that MODEL.ROI_MASK_HEAD.NAME names."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Instances
from rcnnkit.modeling.head_boxes import draw_boxes
from rcnnkit.modeling.partial_labels import HAS_MASK
from rcnnkit.modeling.roi_heads.tasks import ROI_TASK_REGISTRY, Branch, RoITask


@ROI_TASK_REGISTRY.register()
class MaskTask(RoITask):
    """A mask for each box, where MODEL.MASK_ON; learnt from the objects with a mask.

    Attributes:
        most: boxes of a batch to learn from, drawn at random where there are more, whatever the head; 0: all.
    """

    name = "mask"
    truth = "gt_masks"
    label = HAS_MASK

    def __init__(self, most: int = 0):
        self.most = most

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RoITask:
        return cls(cfg.RCNNKIT.MAX_MASK_ROIS)

    @classmethod
    def is_on(cls, cfg: CfgNode) -> bool:
        return cfg.MODEL.MASK_ON

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Branch:
        parts = StandardROIHeads._init_mask_head(cfg, input_shape)
        return Branch(parts["mask_in_features"], parts["mask_pooler"], parts["mask_head"])

    def learnable(self, foreground: list[Instances]) -> list[Instances]:
        return draw_boxes({}, super().learnable(foreground), self.most)[1]
