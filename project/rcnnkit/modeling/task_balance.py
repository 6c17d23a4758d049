"""How the losses of several tasks are weighed against each other.

A task is "rpn", "box", or one of the RoI heads' tasks; its losses begin with `loss_<task>`, what begins with no
task's name is of the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from detectron2.utils.events import get_event_storage
from rcnnkit.errors import UserError, nearest


def task_of(loss_name: str, tasks: Sequence[str]) -> str:
    """The task that a loss belongs to: the longest name that it begins with after `loss_`, else "box"."""
    own = [task for task in tasks if loss_name.startswith(f"loss_{task}")]
    return max(own, key=len, default="box")


def uncertainty_weighted(loss: torch.Tensor, log_variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a task divided by its variance, and the price of that variance.

    Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses", CVPR 2018,
    https://arxiv.org/abs/1705.07115, equation 10, with s = log σ². The half that equation 7 gives regression goes into
    s: exp(-s)/2 is exp(-(s + log 2)).

    Args:
        loss: scalar, not negative.
        log_variance: scalar s.

    Returns:
        exp(-s)·loss and s/2. A loss of exactly 0, of a batch without labels for the task, costs 0: nothing has been
        measured, and s stays.
    """
    return torch.exp(-log_variance) * loss, log_variance / 2 * (loss.detach() != 0)


class FixedBalance(nn.Module):
    """Each task's losses times its weight."""

    def __init__(self, tasks: Sequence[str], weights: Mapping[str, float]):
        """
        Args:
            tasks: names of all tasks.
            weights: of those that do not have 1.
        """
        super().__init__()
        self.tasks = list(tasks)
        self.weights = dict(weights)

    def forward(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The losses by name, each weighed; those of weight 1 are the same tensors."""
        weights = {name: self.weights.get(task_of(name, self.tasks), 1.0) for name in losses}
        return {name: loss if weights[name] == 1 else loss * weights[name] for name, loss in losses.items()}


class UncertaintyBalance(nn.Module):
    """Each task's losses divided by a variance that is learnt with the model: see `uncertainty_weighted`."""

    def __init__(self, tasks: Sequence[str], weights: Mapping[str, float]):
        """
        Args:
            tasks: names of all tasks.
            weights: that some tasks begin with, above 0; the others begin with 1.
        """
        super().__init__()
        self.tasks = list(tasks)
        self.log_variance = nn.ParameterDict(
            {task: nn.Parameter(torch.tensor(-math.log(weights.get(task, 1.0)))) for task in self.tasks}
        )

    def forward(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weighed losses by name, and `loss_balance`, the price of the variances, which may be negative."""
        storage = get_event_storage()
        weighed = dict(losses)
        prices = []
        for task in self.tasks:
            log_variance = self.log_variance[task]
            names = [name for name in losses if task_of(name, self.tasks) == task]
            total = torch.stack([losses[name] for name in names]).sum() if names else log_variance * 0
            prices.append(uncertainty_weighted(total, log_variance)[1])
            weighed.update({name: uncertainty_weighted(losses[name], log_variance)[0] for name in names})
            storage.put_scalar(f"task_balance/weight_{task}", math.exp(-log_variance.item()))
        weighed["loss_balance"] = torch.stack(prices).sum()
        return weighed


KINDS = {"fixed": FixedBalance, "uncertainty": UncertaintyBalance}


def build_task_balance(cfg, tasks: Sequence[str]) -> nn.Module:
    """The balance that RCNNKIT.TASK_BALANCE and TASK_WEIGHTS describe.

    Raises:
        UserError: a weight of a task that the model does not have.
    """
    weights = {task: float(weight) for task, weight in cfg.RCNNKIT.TASK_WEIGHTS}
    for task in weights:
        if task not in tasks:
            close = ", ".join(nearest(task, tasks))
            raise UserError(f"RCNNKIT.TASK_WEIGHTS: the model has no task {task!r}; nearest: {close}")
    return KINDS[cfg.RCNNKIT.TASK_BALANCE](tasks, weights)
