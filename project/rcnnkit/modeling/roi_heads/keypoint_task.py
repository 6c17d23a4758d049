"""Keypoints, by the head that MODEL.ROI_KEYPOINT_HEAD.NAME names."""

import torch

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from detectron2.structures import Instances
from rcnnkit.modeling.keypoint_heads.labels import class_points, points_of_classes
from rcnnkit.modeling.partial_labels import HAS_KEYPOINTS
from rcnnkit.modeling.roi_heads.tasks import ROI_TASK_REGISTRY, Branch, RoITask


@ROI_TASK_REGISTRY.register()
class KeypointTask(RoITask):
    """Keypoints for each box, where MODEL.KEYPOINT_ON; learnt from the objects with keypoints in the proposal.

    Attributes:
        points: (classes, K) bool, which points each class has; None: every class has all.
    """

    name = "keypoint"
    truth = "gt_keypoints"
    label = HAS_KEYPOINTS

    def __init__(self, points: torch.Tensor | None = None):
        self.points = points

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RoITask:
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        return cls(class_points(head.CLASS_KEYPOINTS, head.NUM_KEYPOINTS))

    @classmethod
    def is_on(cls, cfg: CfgNode) -> bool:
        return cfg.MODEL.KEYPOINT_ON

    @classmethod
    def build(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Branch:
        parts = StandardROIHeads._init_keypoint_head(cfg, input_shape)
        return Branch(parts["keypoint_in_features"], parts["keypoint_pooler"], parts["keypoint_head"])

    def learnable(self, foreground: list[Instances]) -> list[Instances]:
        return select_proposals_with_visible_keypoints(super().learnable(foreground))

    def predict(self, branch: Branch, features: dict[str, torch.Tensor], instances: list[Instances]) -> list[Instances]:
        """As of every task; a point that the predicted class does not have gets score 0, whatever the head."""
        instances = super().predict(branch, features, instances)
        if self.points is not None:
            for found in instances:
                keypoints = found.pred_keypoints
                owned = points_of_classes(found.pred_classes, self.points, keypoints.shape[1])
                found.pred_keypoints = torch.cat([keypoints[..., :2], keypoints[..., 2:] * owned[..., None]], dim=2)
        return instances
