import pytest
import torch
from torch import nn

from detectron2.layers import Conv2d, CycleBatchNormList, FrozenBatchNorm2d, LayerNorm, get_norm


def make_frozen() -> FrozenBatchNorm2d:
    # (x - 1) / sqrt(4) * 6 + 5 = 3 x + 2
    norm = FrozenBatchNorm2d(1, eps=0.0)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    norm.weight.fill_(6.0)
    norm.bias.fill_(5.0)
    return norm


@pytest.mark.parametrize("requires_grad", [False, True])
def test_frozen_norm_is_its_affine_map(requires_grad: bool) -> None:
    x = torch.tensor([-1.0, 0.0, 2.0]).view(1, 1, 1, 3).requires_grad_(requires_grad)
    torch.testing.assert_close(make_frozen()(x).flatten(), torch.tensor([-1.0, 2.0, 8.0]))


def test_fresh_frozen_norm_is_the_identity() -> None:
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(FrozenBatchNorm2d(3, eps=1e-3)(x), x)


@pytest.mark.parametrize("bias", [False, True])
def test_folded_norm_equals_conv_then_norm(bias: bool) -> None:
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(4)
    for buffer in norm.buffers():
        buffer.uniform_(0.5, 2.0)
    conv = Conv2d(3, 4, 3, padding=1, bias=bias, norm=norm)
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    expected = norm(nn.functional.conv2d(x, conv.weight, conv.bias, padding=1))
    actual = conv(x)
    torch.testing.assert_close(actual, expected)
    leaves = [x, *conv.parameters()]
    for got, want in zip(
        torch.autograd.grad(actual.square().sum(), leaves),
        torch.autograd.grad(expected.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_folded_norm_follows_writes_through_data() -> None:
    conv = Conv2d(1, 1, 1, bias=False, norm=make_frozen())
    x = torch.ones(1, 1, 1, 1)
    with torch.no_grad():
        conv.weight.data.fill_(1.0)
        assert conv(x).item() == pytest.approx(5.0)
        conv.weight.data.fill_(2.0)
        assert conv(x).item() == pytest.approx(8.0)
        conv.norm.bias.data.fill_(6.0)
        assert conv(x).item() == pytest.approx(9.0)


def test_hook_on_the_norm_is_called() -> None:
    conv = Conv2d(1, 1, 1, norm=make_frozen())
    seen = []
    conv.norm.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    conv(torch.ones(1, 1, 2, 2))
    assert seen == [(1, 1, 2, 2)]


def test_first_version_lacks_statistics() -> None:
    norm = make_frozen()
    norm.load_state_dict({"weight": torch.tensor([2.0]), "bias": torch.tensor([3.0])})
    assert norm.running_mean.item() == 0.0
    assert norm.running_var.item() == 1.0


def test_freezing_keeps_values_and_keys() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2, eps=0.1)))
    model[1][0].running_var.fill_(7.0)
    keys = list(model.state_dict())
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    assert frozen is model
    assert type(model[1][0]) is FrozenBatchNorm2d
    assert model[1][0].eps == 0.1
    assert model[1][0].running_var.tolist() == [7.0, 7.0]
    assert list(model.state_dict()) == keys
    FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(model)
    assert type(model[1][0]) is nn.BatchNorm2d
    assert model[1][0].running_var.tolist() == [7.0, 7.0]


def test_layer_norm_works_across_channels() -> None:
    # Channels 1 and 3: mean 2, deviation 1.
    x = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(LayerNorm(2)(x).flatten(), torch.tensor([-1.0, 1.0]), atol=1e-5, rtol=0)


def test_cycle_takes_turns() -> None:
    norms = CycleBatchNormList(2, num_features=1).eval()
    norms[1].running_mean.fill_(10.0)
    norms.bias.data.fill_(1.0)
    x = torch.full((1, 1, 1, 1), 10.0)
    answers = [norms(x).item() for _ in range(3)]
    assert answers == pytest.approx([11.0, 1.0, 11.0], abs=1e-3)


def test_norm_names() -> None:
    assert get_norm("", 3) is None
    assert get_norm(None, 3) is None
    assert get_norm("GN", 64).num_groups == 32
    assert get_norm("naiveSyncBN_N", 3)._stats_mode == "N"
    with pytest.raises(KeyError, match="known: FrozenBN"):
        get_norm("FrozenBn", 3)
