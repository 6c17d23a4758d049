"""Keypoints, by the head that MODEL.ROI_KEYPOINT_HEAD.NAME names."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from detectron2.structures import Instances
from rcnnkit.modeling.partial_labels import HAS_KEYPOINTS
from rcnnkit.modeling.roi_heads.tasks import ROI_TASK_REGISTRY, Branch, RoITask


@ROI_TASK_REGISTRY.register()
class KeypointTask(RoITask):
    """Keypoints for each box, where MODEL.KEYPOINT_ON; learnt from the objects with keypoints in the proposal."""

    name = "keypoint"
    truth = "gt_keypoints"
    label = HAS_KEYPOINTS

    @classmethod
    def is_on(cls, cfg: CfgNode) -> bool:
        return cfg.MODEL.KEYPOINT_ON

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Branch:
        parts = StandardROIHeads._init_keypoint_head(cfg, input_shape)
        return Branch(parts["keypoint_in_features"], parts["keypoint_pooler"], parts["keypoint_head"])

    def learnable(self, foreground: list[Instances]) -> list[Instances]:
        return select_proposals_with_visible_keypoints(super().learnable(foreground))
