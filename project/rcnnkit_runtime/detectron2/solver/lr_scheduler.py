"""Learning-rate schedules: fvcore's `ParamScheduler` (value as a function of progress in [0, 1]) bound to an optimizer.

Warm-up follows Goyal et al., "Accurate, Large Minibatch SGD" (arXiv 1706.02677); cosine decay Loshchilov and Hutter,
"SGDR" (arXiv 1608.03983).
"""

import logging
import math
from bisect import bisect_right
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim.lr_scheduler import LRScheduler

logger = logging.getLogger(__name__)

WARMUP_METHODS = ("linear", "constant")


class WarmupParamScheduler(CompositeParamScheduler):
    """Another schedule with a warm-up in front of it."""

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        """
        Args:
            scheduler: the schedule after the warm-up.
            warmup_factor: the first value is this times the schedule's own first value.
            warmup_length: share of the training that is warm-up, in [0, 1].
            warmup_method: "linear" (rises to the value that follows) or "constant" (stays at the first value).
            rescale_interval: True squeezes the whole schedule into the time after the warm-up; False lets the warm-up
                replace the schedule's beginning.

        Raises:
            ValueError: unknown `warmup_method`.
        """
        start_value = warmup_factor * scheduler(0.0)
        if warmup_method == "linear":
            end_value = scheduler(0.0) if rescale_interval else scheduler(warmup_length)
            warmup: ParamScheduler = LinearParamScheduler(start_value, end_value)
        elif warmup_method == "constant":
            warmup = ConstantParamScheduler(start_value)
        else:
            raise _unknown_warmup(warmup_method)
        super().__init__(
            [warmup, scheduler],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
            lengths=[warmup_length, 1 - warmup_length],
        )


class LRMultiplier(LRScheduler):
    """Multiplies each parameter group's base rate by a `ParamScheduler`'s value at the present progress.

    Only `base_lrs` and `last_epoch` enter the state dict: a changed schedule or length takes effect on resume.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        """
        Args:
            optimizer: its groups' "lr" (or "initial_lr" when `last_iter` ≥ 0) are the base rates.
            multiplier: factor as a function of progress.
            max_iter: iterations in the whole training.
            last_iter: the last iteration done; -1 at the beginning.
        """
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(
                "LRMultiplier(multiplier=) must be an instance of fvcore ParamScheduler. "
                f"Got {multiplier!r} ({type(multiplier).__name__}) instead."
            )
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[Any]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]


class _WarmedUpLR(LRScheduler):
    """What both deprecated schedules share: the factor of the warm-up over their own decay."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_factor: float,
        warmup_iters: int,
        warmup_method: str,
        last_epoch: int,
    ) -> None:
        logger.warning(f"{type(self).__name__} is deprecated; use LRMultiplier with an fvcore ParamScheduler.")
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.warmup_method = warmup_method
        super().__init__(optimizer, last_epoch)

    def _decay(self) -> float:
        """The factor of the base rates without warm-up."""
        raise NotImplementedError

    def get_lr(self) -> list[Any]:
        warmup = _get_warmup_factor_at_iter(self.warmup_method, self.last_epoch, self.warmup_iters, self.warmup_factor)
        return [base_lr * warmup * self._decay() for base_lr in self.base_lrs]

    def _compute_values(self) -> list[Any]:
        return self.get_lr()


class WarmupMultiStepLR(_WarmedUpLR):
    """Step decay after a warm-up, counted in iterations. Kept for older projects; see `LRMultiplier`."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        milestones: list[int],
        gamma: float = 0.1,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        if list(milestones) != sorted(milestones):
            raise ValueError(f"Milestones should be a list of increasing integers. Got {milestones}")
        self.milestones = milestones
        self.gamma = gamma
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self) -> float:
        return self.gamma ** bisect_right(self.milestones, self.last_epoch)


class WarmupCosineLR(_WarmedUpLR):
    """Cosine decay to zero after a warm-up, counted in iterations. Kept for older projects; see `LRMultiplier`."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ) -> None:
        self.max_iters = max_iters
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * self.last_epoch / self.max_iters))


def _get_warmup_factor_at_iter(method: str, iter: int, warmup_iters: int, warmup_factor: float) -> float:
    """The warm-up's factor at an iteration; 1 once the warm-up is over.

    Raises:
        ValueError: unknown `method`.
    """
    if iter >= warmup_iters:
        return 1.0
    if method == "constant":
        return warmup_factor
    if method == "linear":
        progress = iter / warmup_iters
        return warmup_factor * (1 - progress) + progress
    raise _unknown_warmup(method)


def _unknown_warmup(method: str) -> ValueError:
    return ValueError(f"Unknown warmup method: {method}. Known: {', '.join(WARMUP_METHODS)}.")
