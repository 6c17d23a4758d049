"""What RoI heads learn and predict for a box besides the box: one class for each task, behind one interface.

A new task is a file with a subclass of `RoITask` that is registered and imported in `__init__.py`, and its class name
in RCNNKIT.ROI_TASKS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from detectron2.utils.registry import Registry
from rcnnkit.errors import UserError, nearest

ROI_TASK_REGISTRY = Registry("ROI_TASK")
ROI_TASK_REGISTRY.__doc__ = "Subclasses of `RoITask`, chosen by RCNNKIT.ROI_TASKS."


class Branch(NamedTuple):
    """The modules of a task."""

    in_features: list[str]
    pooler: nn.Module | None
    head: nn.Module

    def __call__(self, features: dict[str, torch.Tensor], boxes: list[Boxes], instances: list[Instances]) -> Any:
        """What the head makes of the boxes: called with their pooled features, without a pooler with the maps by name.

        Args:
            features: feature maps by name, each (N, C, H, W).
            boxes: per image, where to pool.
            instances: per image, the Instances of these boxes.
        """
        if self.pooler is None:
            return self.head({name: features[name] for name in self.in_features}, instances)
        return self.head(self.pooler([features[name] for name in self.in_features], boxes), instances)


class RoITask(ABC):
    """A task on boxes. It owns no modules: the RoI heads hold them, as `<name>_head`, `<name>_pooler` and so on.

    Attributes:
        name: of the task; its losses begin with `loss_<name>`.
        truth: field of the objects that the loss reads; images whose objects have no such field teach nothing.
        label: field (objects,) bool: the object has its truth labelled; without the field, every object has.
    """

    name: str
    truth: str
    label: str

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RoITask:
        return cls()

    @classmethod
    def is_on(cls, cfg: CfgNode) -> bool:
        """Whether the config wants the task, given that RCNNKIT.ROI_TASKS names it."""
        return True

    @classmethod
    @abstractmethod
    def build(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Branch:
        """Its modules."""

    def learnable(self, foreground: list[Instances]) -> list[Instances]:
        """Per image, the foreground proposals whose object has what the loss needs."""
        return [self._labelled(p) for p in foreground]

    def _labelled(self, proposals: Instances) -> Instances:
        if not proposals.has(self.truth):
            return proposals[:0]
        return proposals[proposals.get(self.label)] if proposals.has(self.label) else proposals

    def losses(
        self, branch: Branch, features: dict[str, torch.Tensor], foreground: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """Losses by name, over the proposals whose object is labelled and divided by a number of these.

        Without any, the head is called with no box: its losses are 0 and its parameters have a gradient of 0, so that
        processes that train together do not wait for each other.
        """
        chosen = self.learnable(foreground)
        return branch(features, [p.proposal_boxes for p in chosen], chosen)

    def predict(self, branch: Branch, features: dict[str, torch.Tensor], instances: list[Instances]) -> list[Instances]:
        """The instances with this task's `pred_*` fields; they have `pred_boxes` and `pred_classes`."""
        return branch(features, [p.pred_boxes for p in instances], instances)


def build_tasks(cfg: CfgNode) -> list[RoITask]:
    """The tasks of RCNNKIT.ROI_TASKS that are on, in this order.

    Raises:
        UserError: a name that no task is registered by, or one twice.
    """
    tasks = []
    for number, name in enumerate(cfg.RCNNKIT.ROI_TASKS):
        if name in cfg.RCNNKIT.ROI_TASKS[:number]:
            raise UserError(f"RCNNKIT.ROI_TASKS: {name!r} is there twice; leave one out")
        if name not in ROI_TASK_REGISTRY:
            known = [known for known, _ in ROI_TASK_REGISTRY]
            raise UserError(f"RCNNKIT.ROI_TASKS: no task {name!r}; nearest: {', '.join(nearest(name, known))}")
        task = ROI_TASK_REGISTRY.get(name)
        if task.is_on(cfg):
            tasks.append(task.from_config(cfg))
    return tasks
