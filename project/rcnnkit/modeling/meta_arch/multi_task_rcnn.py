"""One network for boxes and what is asked about them, learnt from data of which each object may have some labels."""

from __future__ import annotations

from typing import Any

from torch import nn

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.utils.events import get_event_storage
from rcnnkit.modeling.ignored_regions import targets_of
from rcnnkit.modeling.task_balance import build_task_balance


@META_ARCH_REGISTRY.register()
class MultiTaskRCNN(GeneralizedRCNN):
    """GeneralizedRCNN that knows ignored regions and weighs its tasks against each other.

    Its counterparts are `IgnoringRPN` and `TaskROIHeads`. With weights of 1 and no ignored regions its losses and
    predictions are GeneralizedRCNN's, and so are the names of its weights.
    """

    @configurable
    def __init__(self, *, balance: nn.Module, **arguments: Any):
        """
        Args:
            balance: weighs the losses by name.
            **arguments: those of GeneralizedRCNN.
        """
        super().__init__(**arguments)
        self.balance = balance

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = super().from_config(cfg)
        generator, roi_heads = arguments["proposal_generator"], arguments["roi_heads"]
        tasks = [task.name for task in getattr(roi_heads, "tasks", ())]
        arguments["balance"] = build_task_balance(cfg, [*(["rpn"] if generator is not None else []), "box", *tasks])
        return arguments

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: as of GeneralizedRCNN; in training an item may have "ignored", Boxes in pixels of its image.

        Returns:
            in training the weighed losses by name, otherwise per image a dict with "instances".
        """
        if not self.training:
            return self.inference(batched_inputs)

        images = self.preprocess_image(batched_inputs)
        targets = [targets_of(item, self.device) for item in batched_inputs]
        features = self.backbone(images.tensor)
        if self.proposal_generator is not None:
            proposals, proposal_losses = self.proposal_generator(images, features, targets)
        else:
            proposals, proposal_losses = [item["proposals"].to(self.device) for item in batched_inputs], {}
        _, roi_losses = self.roi_heads(images, features, proposals, targets)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return self.balance({**roi_losses, **proposal_losses})
