"""The optimiser that the config names, its groups and one hand-worked step."""

import pytest
import torch

from detectron2.config import get_cfg
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.engine.optimizer import build_optimizer
from rcnnkit.modeling.task_balance import UncertaintyBalance


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 0.1, 0.5, 0.0
    return cfg


def _model():
    return torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))


def test_default_is_the_engine_s_sgd(cfg):
    assert isinstance(build_optimizer(cfg, _model()), torch.optim.SGD)


def test_adamw_step_by_hand(cfg):
    cfg.RCNNKIT.OPTIMIZER = "adamw"
    model = _model()
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    model[0].weight.grad = torch.full((1, 1), 3.0)
    model[1].weight.grad = torch.zeros(1)
    optimizer.step()
    # Decay first: 2 · (1 − 0.1 · 0.5) = 1.9; Adam's first step is the rate against the gradient's sign: 1.8.
    assert model[0].weight.item() == pytest.approx(1.8, abs=1e-5)
    assert model[1].weight.item() == 1.0, "norm layers have a weight decay of their own: none"


def test_gradients_are_clipped(cfg):
    cfg.RCNNKIT.OPTIMIZER = "ADAMW"
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    model = _model()
    optimizer = build_optimizer(cfg, model)
    model[0].weight.grad = torch.full((1, 1), 30.0)
    optimizer.step()
    assert model[0].weight.grad.item() == pytest.approx(1.0, abs=1e-4)


def test_unknown_name(cfg):
    cfg.RCNNKIT.OPTIMIZER = "LION"
    with pytest.raises(ValueError, match="'LION'"):
        build_optimizer(cfg, _model())


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_learnt_weights_of_tasks_do_not_decay(cfg, name):
    cfg.RCNNKIT.OPTIMIZER = name
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = 0.1, 0.5
    model = _model()
    model.add_module("balance", UncertaintyBalance(["rpn", "box"], {"box": 0.25}))
    before = {key: parameter.item() for key, parameter in model.balance.named_parameters()}
    optimizer = build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight = model[0].weight.item()
    optimizer.step()
    assert {key: parameter.item() for key, parameter in model.balance.named_parameters()} == before
    assert model[0].weight.item() == pytest.approx(weight * 0.95)
    assert len({id(p) for group in optimizer.param_groups for p in group["params"]}) == len(list(model.parameters()))
