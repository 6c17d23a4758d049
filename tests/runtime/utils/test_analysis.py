"""Counts by hand for one convolution and one linear layer; the numbers equal stock Detectron2's."""

import pytest
import torch
from torch import nn

from detectron2.utils import analysis


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.linear = nn.Linear(4, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs):
        scores = self.linear(torch.sigmoid(self.conv(inputs[0]["image"][None]).relu()).mean((2, 3)))
        return {"loss": scores.sum()} if self.training else [{"scores": scores}]


INPUTS = [{"image": torch.rand(3, 8, 8)}]


def test_flops():
    model = Small()
    # 8·8 pixels · 4 channels · 3·3·3 weights, and 4·2 weights
    assert dict(analysis.flop_count_operators(model, INPUTS)) == pytest.approx({"conv": 6912e-9, "linear": 8e-9})
    assert model.training
    counted = analysis.FlopCountAnalysis(model.eval(), INPUTS)
    assert counted.total() == 6920
    assert counted.by_module()["model.conv"] == 6912 and counted.by_operator() == {"conv": 6912, "linear": 8}


def test_activations():
    # 8·8 pixels · 4 channels, and 2 scores
    assert dict(analysis.activation_count_operators(Small(), INPUTS)) == pytest.approx({"conv": 256e-6, "linear": 2e-6})


def test_parameters():
    assert analysis.parameter_count(Small())[""] == 3 * 4 * 9 + 10 + 6
    assert "conv.weight" in analysis.parameter_count_table(Small())


def test_unused_parameters():
    model = Small()
    assert analysis.find_unused_parameters(model, INPUTS) == ["unused.weight", "unused.bias"]
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(AssertionError, match="training mode"):
        analysis.find_unused_parameters(model.eval(), INPUTS)
