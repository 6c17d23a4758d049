import pytest
import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.solver.build import _generate_optimizer_class_with_gradient_clipping, maybe_add_gradient_clipping


def _cfg(kind, value=0.5, norm=2.0):
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = kind
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = value
    cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE = norm
    return cfg


def _layer():
    layer = nn.Linear(2, 1)  # its bias has no gradient
    layer.weight.grad = torch.tensor([[3.0, -4.0]])
    return layer


@pytest.mark.parametrize(
    ("kind", "norm", "expected"),
    [
        ("value", 2.0, [[0.5, -0.5]]),
        ("norm", 2.0, [[0.3, -0.4]]),  # length 5 to 0.5
        ("norm", float("inf"), [[0.375, -0.5]]),  # largest 4 to 0.5
    ],
)
def test_step_clips_first(kind, norm, expected):
    layer = _layer()
    before = layer.weight.detach().clone()
    optimizer = maybe_add_gradient_clipping(_cfg(kind, norm=norm), torch.optim.SGD)(layer.parameters(), lr=1.0)
    optimizer.step()
    expected = torch.tensor(expected)
    torch.testing.assert_close(layer.weight.grad, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.weight.detach(), before - expected, atol=1e-5, rtol=0)


def test_class_is_a_named_subclass():
    clipping = maybe_add_gradient_clipping(_cfg("value"), torch.optim.AdamW)
    assert issubclass(clipping, torch.optim.AdamW)
    assert clipping.__name__ == "AdamWWithGradientClip"


def test_an_instance_is_changed_in_place():
    layer = _layer()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    assert maybe_add_gradient_clipping(_cfg("value"), optimizer) is optimizer
    optimizer.step()
    assert layer.weight.grad.tolist() == [[0.5, -0.5]]


def test_nothing_changes_when_disabled():
    assert maybe_add_gradient_clipping(get_cfg(), torch.optim.SGD) is torch.optim.SGD


def test_unknown_kind():
    with pytest.raises(ValueError, match="nope"):
        maybe_add_gradient_clipping(_cfg("nope"), torch.optim.SGD)


def test_global_clipper_gets_all_parameters_at_once():
    layer = _layer()
    layer.bias.grad = torch.tensor([12.0])  # joint length 13
    clipping = _generate_optimizer_class_with_gradient_clipping(
        torch.optim.SGD, global_clipper=lambda parameters: nn.utils.clip_grad_norm_(parameters, 1.3)
    )
    clipping(layer.parameters(), lr=0.0).step()
    assert layer.weight.grad[0].tolist() == pytest.approx([0.3, -0.4], abs=1e-5)
    assert layer.bias.grad.tolist() == pytest.approx([1.2], abs=1e-5)


def test_two_clippers_are_refused():
    with pytest.raises(AssertionError, match="both"):
        _generate_optimizer_class_with_gradient_clipping(torch.optim.SGD, per_param_clipper=abs, global_clipper=abs)
