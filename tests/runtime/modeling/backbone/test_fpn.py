import pytest
import torch

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7


class Pyramid(Backbone):
    """Two maps of constant value: 1 at stride 4, 2 at stride 8, one channel."""

    def __init__(self, strides=(4, 8)):
        super().__init__()
        self.strides = strides

    def forward(self, x):
        return {
            f"res{i}": torch.full((x.shape[0], 1, x.shape[2] // s, x.shape[3] // s), float(i - 1))
            for i, s in enumerate(self.strides, start=2)
        }

    def output_shape(self):
        return {f"res{i}": ShapeSpec(channels=1, stride=s) for i, s in enumerate(self.strides, start=2)}


def identity_fpn(**kwargs):
    """Lateral convolutions are the identity, output convolutions copy their centre."""
    model = FPN(Pyramid(), ["res2", "res3"], 1, **kwargs)
    with torch.no_grad():
        for lateral, output in zip(model.lateral_convs, model.output_convs):
            lateral.weight.fill_(1)
            output.weight.zero_()
            output.weight[0, 0, 1, 1] = 1
    return model


@pytest.mark.parametrize(("fuse_type", "fine"), [("sum", 3.0), ("avg", 1.5)])
def test_top_down_fusion_by_hand(fuse_type, fine):
    results = identity_fpn(fuse_type=fuse_type)(torch.zeros(1, 3, 16, 24))
    assert list(results) == ["p2", "p3"]
    assert results["p2"].shape == (1, 1, 4, 6)
    assert results["p2"].unique().tolist() == [fine]
    assert results["p3"].unique().tolist() == [2.0]


def test_shape_and_constraints():
    model = identity_fpn(square_pad=64)
    assert model.output_shape() == {"p2": ShapeSpec(channels=1, stride=4), "p3": ShapeSpec(channels=1, stride=8)}
    assert model.size_divisibility == 8
    assert model.padding_constraints == {"square_size": 64}


def test_norm_replaces_the_bias():
    model = FPN(Pyramid(), ["res2"], 32, norm="GN")
    assert model.fpn_lateral2.bias is None
    assert model.fpn_output2.norm is not None


def test_top_blocks():
    top = LastLevelMaxPool()
    top.in_feature = "p3"
    model = identity_fpn(top_block=top)
    results = model(torch.zeros(1, 3, 16, 24))
    assert list(results) == ["p2", "p3", "p4"]
    assert model.output_shape()["p4"].stride == 16
    assert results["p4"].shape == (1, 1, 1, 2)

    model = identity_fpn(top_block=LastLevelP6P7(1, 1, in_feature="res3"))
    results = model(torch.zeros(1, 3, 32, 32))
    assert [x.shape[-1] for x in results.values()] == [8, 4, 2, 1]


def test_p7_sees_rectified_p6():
    block = LastLevelP6P7(1, 1)
    with torch.no_grad():
        block.p6.weight.fill_(-1.0)
        block.p7.bias.fill_(0.5)
    p6, p7 = block(torch.ones(1, 1, 4, 4))
    assert p6.max() < 0
    assert p7.unique().tolist() == [0.5]


def test_bad_arguments():
    with pytest.raises(AssertionError, match="not log2 contiguous"):
        FPN(Pyramid((4, 16)), ["res2", "res3"], 1)
    with pytest.raises(AssertionError, match="fuse_type"):
        FPN(Pyramid(), ["res2"], 1, fuse_type="max")
    with pytest.raises(AssertionError, match="in_features"):
        FPN(Pyramid(), [], 1)
