import pytest
import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.solver import build_optimizer, get_default_optimizer_params
from detectron2.solver.build import _expand_param_groups, reduce_param_groups


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.norm = nn.GroupNorm(1, 2)
        self.shared = self.conv
        self.frozen = nn.Linear(2, 2)
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)


def _named(model, groups):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [{**group, "params": [names[parameter] for parameter in group["params"]]} for group in groups]


def test_one_group_without_options():
    model = _Model()
    groups = _named(model, get_default_optimizer_params(model))
    assert groups == [{"params": ["conv.weight", "conv.bias", "norm.weight", "norm.bias"]}]


def test_norm_and_bias_options():
    model = _Model()
    groups = get_default_optimizer_params(
        model, base_lr=0.1, weight_decay=0.01, weight_decay_norm=0.0, bias_lr_factor=2.0, weight_decay_bias=0.5
    )
    assert _named(model, groups) == [
        {"lr": 0.1, "weight_decay": 0.01, "params": ["conv.weight"]},
        {"lr": 0.2, "weight_decay": 0.5, "params": ["conv.bias", "norm.bias"]},
        {"lr": 0.1, "weight_decay": 0.0, "params": ["norm.weight"]},
    ]


def test_lr_factor_sees_full_names_and_overrides_win():
    model = _Model()
    groups = get_default_optimizer_params(
        model,
        base_lr=1.0,
        lr_factor_func=lambda name: 0.5 if name.startswith("conv.") else 1.0,
        overrides={"bias": {"lr": 3.0}},
    )
    rates = {name: group["lr"] for group in _named(model, groups) for name in group["params"]}
    assert rates == {"conv.weight": 0.5, "conv.bias": 3.0, "norm.weight": 1.0, "norm.bias": 3.0}


def test_overrides_of_the_caller_stay_as_they_are():
    overrides = {"weight": {"lr": 2.0}}
    get_default_optimizer_params(_Model(), base_lr=1.0, bias_lr_factor=2.0, overrides=overrides)
    assert overrides == {"weight": {"lr": 2.0}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bias_lr_factor": 2.0}, "requires base_lr"),
        ({"lr_factor_func": lambda name: 1.0}, "requires base_lr"),
        ({"weight_decay_bias": 1.0, "overrides": {"bias": {"weight_decay": 2.0}}}, "Conflicting"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        get_default_optimizer_params(_Model(), **arguments)


def test_expanded_groups_let_later_options_win():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    expanded = _expand_param_groups([{"params": [a, b], "lr": 1}, {"params": a, "lr": 2, "weight_decay": 3}])
    assert expanded == [{"params": [a], "lr": 2, "weight_decay": 3}, {"params": [b], "lr": 1}]


def test_groups_of_equal_options_merge():
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [a], "lr": 1}, {"params": [b], "lr": 2}, {"params": [c], "lr": 1}]
    assert reduce_param_groups(groups) == [{"lr": 1, "params": [a, c]}, {"lr": 2, "params": [b]}]


def test_sgd_from_config():
    cfg = get_cfg()
    cfg.SOLVER.NESTEROV = True
    model = _Model()
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.SGD)
    plain, norm = optimizer.param_groups
    assert (plain["lr"], plain["weight_decay"], plain["momentum"], plain["nesterov"]) == (0.001, 0.0001, 0.9, True)
    assert norm["weight_decay"] == 0.0
    assert _named(model, [norm])[0]["params"] == ["norm.weight", "norm.bias"]


def test_groups_serve_other_optimizers():
    model = _Model()
    groups = get_default_optimizer_params(model, weight_decay_norm=0.0)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.05)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
