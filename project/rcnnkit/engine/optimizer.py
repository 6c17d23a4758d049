"""The optimiser that `RCNNKIT.OPTIMIZER` names."""

from typing import Any

import torch

from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """SGD as the engine builds it, or AdamW with the engine's parameter groups and gradient clipping.

    AdamW: https://arxiv.org/abs/1711.05101. Norm layers and biases have the weight decay that
    SOLVER.WEIGHT_DECAY_NORM and SOLVER.WEIGHT_DECAY_BIAS give them.

    Raises:
        ValueError: an optimiser of another name.
    """
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
