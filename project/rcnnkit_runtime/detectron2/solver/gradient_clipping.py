"""Gradient clipping as a part of `optimizer.step()`, so that every trainer and grad scaler gets it."""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeAlias

import torch

from detectron2.config import CfgNode

_GradientClipperInput: TypeAlias = torch.Tensor | Iterable[torch.Tensor]
_GradientClipper: TypeAlias = Callable[[_GradientClipperInput], object]


class GradientClipType(Enum):
    """The values of SOLVER.CLIP_GRADIENTS.CLIP_TYPE; both act on each parameter on its own."""

    VALUE = "value"
    NORM = "norm"


def _create_gradient_clipper(cfg: CfgNode) -> _GradientClipper:
    """
    Args:
        cfg: the node SOLVER.CLIP_GRADIENTS.

    Raises:
        ValueError: unknown CLIP_TYPE.
    """
    clip_value, norm_type = float(cfg.CLIP_VALUE), float(cfg.NORM_TYPE)

    def clip_by_value(parameters: _GradientClipperInput) -> None:
        torch.nn.utils.clip_grad_value_(parameters, clip_value)

    def clip_by_norm(parameters: _GradientClipperInput) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, clip_value, norm_type)

    known = {GradientClipType.VALUE: clip_by_value, GradientClipType.NORM: clip_by_norm}
    return known[GradientClipType(cfg.CLIP_TYPE)]


def _generate_optimizer_class_with_gradient_clipping(
    optimizer: type[torch.optim.Optimizer],
    *,
    per_param_clipper: _GradientClipper | None = None,
    global_clipper: _GradientClipper | None = None,
) -> type[torch.optim.Optimizer]:
    """A subclass of an optimizer class whose `step` clips first.

    Args:
        optimizer: the class to extend.
        per_param_clipper: called with one parameter at a time, those without a gradient left out.
        global_clipper: called once with the list of all parameters.
    """
    if per_param_clipper is not None and global_clipper is not None:
        raise AssertionError("Not allowed to use both per-parameter clipping and global clipping")

    def step(self, closure=None):
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        if per_param_clipper is not None:
            for parameter in parameters:
                if parameter.grad is not None:
                    per_param_clipper(parameter)
        elif global_clipper is not None:
            global_clipper(parameters)
        return optimizer.step(self, closure)

    return type(f"{optimizer.__name__}WithGradientClip", (optimizer,), {"step": step, "__module__": __name__})


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: type[torch.optim.Optimizer] | torch.optim.Optimizer
) -> type[torch.optim.Optimizer] | torch.optim.Optimizer:
    """Gives an optimizer class (or an instance, in place) the clipping of SOLVER.CLIP_GRADIENTS, if that is enabled."""
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    instance = None if isinstance(optimizer, type) else optimizer
    base = optimizer if isinstance(optimizer, type) else type(optimizer)
    clipping = _generate_optimizer_class_with_gradient_clipping(
        base, per_param_clipper=_create_gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)
    )
    if instance is None:
        return clipping
    instance.__class__ = clipping
    return instance
