"""torch.fx's tracing is noticed; versions compare by number."""

import pytest
import torch
from torch import nn

from detectron2.utils.torch_version_utils import min_torch_version
from detectron2.utils.tracing import assert_fx_safe, is_fx_tracing


class Asks(nn.Module):
    def forward(self, x):
        assert_fx_safe(x.sum() > 0, "the sum has to be positive")
        self.traced = is_fx_tracing()
        return x + 1


def test_assertions_hold_outside_of_traces_only():
    model = Asks()
    assert model(torch.ones(1)).item() == 2 and model.traced is False
    with pytest.raises(AssertionError, match="positive"):
        model(torch.zeros(1))
    graph = torch.fx.symbolic_trace(model)
    assert model.traced is True and graph(torch.zeros(1)).item() == 1


@pytest.mark.parametrize(
    ("installed", "wanted", "enough"),
    [("2.10.0", "2.9", True), ("2.10.0+cu128", "2.10", True), ("2.10.0a0", "2.10", True), ("2.10.0", "2.11", False)],
)
def test_versions(monkeypatch, installed, wanted, enough):
    monkeypatch.setattr(torch, "__version__", installed)
    assert min_torch_version(wanted) is enough
