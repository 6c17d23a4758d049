"""Optimizers, their parameter groups and learning-rate schedules from a config."""

import copy
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)

from detectron2.config import CfgNode
from detectron2.solver.gradient_clipping import (
    GradientClipType,
    _create_gradient_clipper,
    _generate_optimizer_class_with_gradient_clipping,
    maybe_add_gradient_clipping,
)
from detectron2.solver.lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

__all__ = [
    "GradientClipType",
    "_create_gradient_clipper",
    "_generate_optimizer_class_with_gradient_clipping",
    "build_lr_scheduler",
    "build_optimizer",
    "get_default_optimizer_params",
    "maybe_add_gradient_clipping",
    "reduce_param_groups",
]

_NORM_TYPES = (
    torch.nn.modules.batchnorm._BatchNorm,  # 1d, 2d, 3d and synchronised
    torch.nn.modules.instancenorm._InstanceNorm,
    torch.nn.GroupNorm,
    torch.nn.LayerNorm,
    torch.nn.LocalResponseNorm,
)


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum over the groups of `get_default_optimizer_params`, with the clipping of the config."""
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    optimizer_class: Any = maybe_add_gradient_clipping(cfg, torch.optim.SGD)
    return optimizer_class(
        params,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        foreach=True,
    )


def get_default_optimizer_params(
    model: torch.nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for any torch optimizer; shared parameters once, frozen ones not at all.

    Args:
        model: the model to train.
        base_lr: learning rate of every group; the optimizer's default where None.
        weight_decay: weight decay of every group; the optimizer's default where None.
        weight_decay_norm: weight decay of normalisation layers' parameters.
        bias_lr_factor: the rate of parameters named "bias" is this times `base_lr`.
        weight_decay_bias: weight decay of parameters named "bias"; goes before `weight_decay_norm`.
        lr_factor_func: full parameter name to a factor on `base_lr`, e.g. layer-wise decay.
        overrides: last part of a parameter's name to options of its group; goes before all of the above.

    Returns:
        Groups of {"params": [...], option: value}.

    Raises:
        ValueError: a factor without `base_lr`, or "bias" both in `overrides` and set by the bias arguments.
    """
    overrides = _with_bias_options(overrides or {}, base_lr, bias_lr_factor, weight_decay_bias)
    if lr_factor_func is not None and base_lr is None:
        raise ValueError("lr_factor_func requires base_lr")
    common: dict[str, Any] = {}
    if base_lr is not None:
        common["lr"] = base_lr
    if weight_decay is not None:
        common["weight_decay"] = weight_decay

    groups: list[dict[str, Any]] = []
    seen: set[torch.nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            options = dict(common)
            if isinstance(module, _NORM_TYPES) and weight_decay_norm is not None:
                options["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                options["lr"] *= lr_factor_func(f"{module_name}.{name}")
            options.update(overrides.get(name, {}))
            groups.append({"params": [parameter], **options})
    return reduce_param_groups(groups)


def _with_bias_options(
    overrides: dict[str, dict[str, float]],
    base_lr: float | None,
    bias_lr_factor: float | None,
    weight_decay_bias: float | None,
) -> dict[str, dict[str, float]]:
    """`overrides` with the options that the bias arguments ask for under "bias"."""
    bias_options: dict[str, float] = {}
    if bias_lr_factor is not None and bias_lr_factor != 1.0:
        if base_lr is None:
            raise ValueError("bias_lr_factor requires base_lr")
        bias_options["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        bias_options["weight_decay"] = weight_decay_bias
    if not bias_options:
        return overrides
    if "bias" in overrides:
        raise ValueError("Conflicting overrides for 'bias'")
    return {**overrides, "bias": bias_options}


def _expand_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One group per parameter; of a parameter that comes twice, the later options win."""
    expanded: dict[torch.Tensor, dict[str, Any]] = defaultdict(dict)
    for group in params:
        members = group["params"]
        options = {key: value for key, value in group.items() if key != "params"}
        for parameter in [members] if isinstance(members, torch.Tensor) else members:
            expanded[parameter].update({"params": [parameter], **options})
    return list(expanded.values())


def reduce_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merges groups of equal options: fewer groups make foreach optimizers faster."""
    merged: dict[tuple, list[torch.nn.Parameter]] = defaultdict(list)
    for group in _expand_param_groups(params):
        options = tuple(sorted((key, value) for key, value in group.items() if key != "params"))
        merged[options].extend(group["params"])
    return [{**dict(options), "params": members} for options, members in merged.items()]


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The schedule SOLVER.LR_SCHEDULER_NAME with its warm-up.

    Raises:
        ValueError: unknown schedule or warm-up; a step that equals MAX_ITER.
    """
    solver = cfg.SOLVER
    schedule = WarmupParamScheduler(
        _decay_from_config(cfg),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=solver.MAX_ITER)


def _decay_from_config(cfg: CfgNode) -> ParamScheduler:
    """The schedule without its warm-up, as a factor on the base rate."""
    solver = cfg.SOLVER
    name = solver.LR_SCHEDULER_NAME
    if name == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
        if len(steps) != len(solver.STEPS):
            logging.getLogger(__name__).warning(
                "SOLVER.STEPS contains values larger than SOLVER.MAX_ITER. These values will be ignored."
            )
        values = [solver.GAMMA**count for count in range(len(steps) + 1)]
        return MultiStepParamScheduler(values=values, milestones=copy.copy(steps), num_updates=solver.MAX_ITER)
    if name == "WarmupCosineLR":
        end_value = solver.BASE_LR_END / solver.BASE_LR
        if not 0.0 <= end_value <= 1.0:
            raise ValueError(
                f"SOLVER.BASE_LR_END={solver.BASE_LR_END} must lie in [0, SOLVER.BASE_LR={solver.BASE_LR}]."
            )
        return CosineParamScheduler(1.0, end_value)
    if name == "WarmupStepWithFixedGammaLR":
        return _FixedGammaSteps(
            base_value=1.0, gamma=solver.GAMMA, num_decays=solver.NUM_DECAYS, num_updates=solver.MAX_ITER
        )
    known = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
    raise ValueError(f"Unknown LR scheduler: {name}. SOLVER.LR_SCHEDULER_NAME may be {', '.join(known)}.")


class _FixedGammaSteps(StepWithFixedGammaParamScheduler):
    """fvcore's class fails at progress 1, which the step after the last iteration asks for; the last value stays."""

    def __call__(self, where: float) -> float:
        return super().__call__(min(where, 1.0 - 2 * self.WHERE_EPSILON))
