"""RoI heads that hold an ordered set of tasks, and learn each from the objects that have its label.

Shape letters: N images, Ri boxes of image i. Boxes are absolute pixels XYXY.
"""

from __future__ import annotations

from typing import Any

import torch

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads, select_foreground_proposals
from detectron2.structures import ImageList, Instances, pairwise_iou
from rcnnkit.modeling.ignored_regions import in_ignored
from rcnnkit.modeling.roi_heads.tasks import Branch, RoITask, build_tasks


@ROI_HEADS_REGISTRY.register()
class TaskROIHeads(StandardROIHeads):
    """Boxes, and the tasks of RCNNKIT.ROI_TASKS on them.

    Weights have the names that they have in StandardROIHeads. Where every object has all labels and no region is
    ignored, losses and predictions are those of StandardROIHeads.
    """

    @configurable
    def __init__(self, *, tasks: list[RoITask], branches: list[Branch], ignore_threshold: float, **arguments: Any):
        """
        Args:
            tasks: in the order in which they are computed.
            branches: the modules of each.
            ignore_threshold: background proposals are left out of the training sample from this share of their area in
                an ignored region on, 0 to 1.
            **arguments: those of StandardROIHeads for the box.
        """
        super().__init__(**arguments)
        self.tasks = list(tasks)
        self.ignore_threshold = ignore_threshold
        # The attributes of StandardROIHeads: what replaces, freezes or exports `mask_head` finds it.
        for task, branch in zip(tasks, branches, strict=True):
            setattr(self, f"{task.name}_on", True)
            for part, value in branch._asdict().items():
                setattr(self, f"{task.name}_{part}", value)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:  # type: ignore[override]
        arguments = super().from_config(cfg, input_shape)
        tasks = build_tasks(cfg)
        return {
            **arguments,
            "tasks": tasks,
            "branches": [task.build(cfg, input_shape) for task in tasks],
            "ignore_threshold": cfg.RCNNKIT.IGNORE_IOA,
        }

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {}  # a task of its own

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {}  # a task of its own

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """In training the drawn proposals and the losses of all tasks, otherwise the detections and no losses.

        Args:
            images: not read.
            features: feature maps by name, each (N, C, H, W).
            proposals: per image, Instances with `proposal_boxes`.
            targets: in training, per image, the objects, with the ignored regions if it is an `ImageTargets`.
        """
        if not self.training:
            instances = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, instances), {}

        if targets is None:
            raise ValueError(f"{type(self).__name__}: training needs targets")
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._box_losses(features, proposals, targets)
        foreground, _ = select_foreground_proposals(proposals, self.num_classes)
        for task in self._tasks_on():
            losses.update(task.losses(self.branch(task), features, foreground))
        return proposals, losses

    def forward_with_given_boxes(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add the predictions of all tasks that are on to instances that have `pred_boxes` and `pred_classes`."""
        if self.training:
            raise RuntimeError(f"{type(self).__name__}.forward_with_given_boxes is for inference: call eval() first")
        for task in self._tasks_on():
            instances = task.predict(self.branch(task), features, instances)
        return instances

    def _tasks_on(self) -> list[RoITask]:
        """Detectron2 and its users switch branches off by `mask_on` and `keypoint_on`."""
        return [task for task in self.tasks if getattr(self, f"{task.name}_on")]

    def branch(self, task: RoITask) -> Branch:
        """The modules of a task, as they are now."""
        return Branch(*(getattr(self, f"{task.name}_{part}") for part in Branch._fields))

    def _box_losses(
        self, features: dict[str, torch.Tensor], proposals: list[Instances], targets: list[Instances]
    ) -> dict[str, torch.Tensor]:
        return self._forward_box(features, proposals)

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """As of StandardROIHeads; what would be background in an ignored region is not among the proposals."""
        return super().label_and_sample_proposals(
            [self._beside_ignored(p, t) for p, t in zip(proposals, targets, strict=True)], targets
        )

    def _beside_ignored(self, proposals: Instances, targets: Instances) -> Instances:
        ignored = in_ignored(proposals.proposal_boxes, targets, self.ignore_threshold)
        if ignored is None:
            return proposals
        _, labels = self.proposal_matcher(pairwise_iou(targets.gt_boxes, proposals.proposal_boxes))
        return proposals[~ignored | (labels != 0)]


@ROI_HEADS_REGISTRY.register()
class CascadeTaskROIHeads(TaskROIHeads, CascadeROIHeads):
    """TaskROIHeads whose boxes go through the stages of Cascade R-CNN, https://arxiv.org/abs/1712.00726."""

    def _box_losses(
        self, features: dict[str, torch.Tensor], proposals: list[Instances], targets: list[Instances]
    ) -> dict[str, torch.Tensor]:
        return self._forward_box(features, proposals, targets)

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        labelled = super()._match_and_label_boxes(proposals, stage, targets)
        return [self._background_beside_ignored(p, t) for p, t in zip(labelled, targets, strict=True)]

    def _background_beside_ignored(self, labelled: Instances, targets: Instances) -> Instances:
        ignored = in_ignored(labelled.proposal_boxes, targets, self.ignore_threshold)
        return labelled if ignored is None else labelled[~ignored | (labelled.gt_classes != self.num_classes)]
