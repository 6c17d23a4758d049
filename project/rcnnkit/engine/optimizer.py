"""The optimiser that `RCNNKIT.OPTIMIZER` names."""

from typing import Any

import torch

from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from rcnnkit.modeling.task_balance import UncertaintyBalance


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """SGD as the engine builds it, or AdamW with the engine's parameter groups and gradient clipping.

    AdamW: https://arxiv.org/abs/1711.05101. Norm layers and biases have the weight decay that
    SOLVER.WEIGHT_DECAY_NORM and SOLVER.WEIGHT_DECAY_BIAS give them; learnt weights of tasks have none, which would pull
    them to 1.

    Raises:
        ValueError: an optimiser of another name.
    """
    optimizer = _optimizer_of_groups(cfg, model)
    balances = [module for module in model.modules() if isinstance(module, UncertaintyBalance)]
    _leave_undecayed(optimizer, [parameter for balance in balances for parameter in balance.parameters()])
    return optimizer


def _leave_undecayed(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]) -> None:
    """Take them out of their groups into like ones without weight decay."""
    wanted = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in wanted]
        if own:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in wanted]
            optimizer.add_param_group({**group, "params": own, "weight_decay": 0.0})


def _optimizer_of_groups(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    name = cfg.RCNNKIT.OPTIMIZER.upper()
    if name == "SGD":
        return build_sgd(cfg, model)
    if name != "ADAMW":
        raise ValueError(f"RCNNKIT.OPTIMIZER: {cfg.RCNNKIT.OPTIMIZER!r} is unknown; choose SGD or ADAMW")
    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    clipped: Any = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
    return clipped(
        groups,
        lr=cfg.SOLVER.BASE_LR,
        betas=tuple(cfg.RCNNKIT.ADAMW_BETAS),
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        fused=True,  # one pass over memory; on a CPU a fifth of a small model's step otherwise
    )
