"""The fast 3x3 convolution against torch's, and where it must keep out of the way."""

import pytest
import torch
from torch.nn import functional as F

from detectron2.layers import Conv2d, FrozenBatchNorm2d, winograd

LARGE = (1, 128, 60, 60)


@pytest.mark.parametrize("shape", [(1, 8, 61, 83), (3, 5, 14, 15), (70, 4, 14, 14), (2, 3, 1, 2), (1, 6, 8, 1200)])
def test_equals_the_direct_convolution(shape):
    x, weight, bias = torch.randn(shape), torch.randn(7, shape[1], 3, 3), torch.randn(7)
    for b in (bias, None):
        exact = F.conv2d(x.double(), weight.double(), None if b is None else b.double(), padding=1)
        got = winograd.convolve(x, weight, b)
        assert got.shape == exact.shape
        assert (got - exact).abs().max() < 3e-5 * exact.std()


@pytest.mark.parametrize("size", [(60, 64), (61, 59), (60, 59)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("of_weight", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_is_the_direct_convolutions(size, memory_format, of_weight):
    conv = Conv2d(128, 128, 3, padding=1).to(memory_format=of_weight)
    x = torch.randn(2, 128, *size).contiguous(memory_format=memory_format)
    with torch.no_grad():
        assert winograd.is_worthwhile(conv, x)
        got, expected = conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1)
    assert got.stride() == expected.stride()
    torch.testing.assert_close(got, expected, atol=3e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(60, 64), (61, 59)])
def test_output_can_be_viewed_as_rows_of_channels(size):
    conv, x = Conv2d(128, 128, 3, padding=1), torch.randn(2, 128, *size)
    with torch.no_grad():
        assert winograd.is_worthwhile(conv, x)
        assert conv(x).view(2, 128, -1).shape == (2, 128, size[0] * size[1])
        # every second column of a wider picture: neither layout
        assert conv(torch.randn(2, 128, size[0], 2 * size[1])[..., ::2]).is_contiguous()


def test_constant_picture_by_hand():
    # ones convolved with ones: nine taps inside, six at an edge, four in a corner
    got = winograd.convolve(torch.ones(1, 1, 5, 6), torch.ones(1, 1, 3, 3), None)[0, 0]
    assert got[2, 3] == pytest.approx(9, abs=1e-4)
    assert got[0, 3] == pytest.approx(6, abs=1e-4)
    assert got[4, 5] == pytest.approx(4, abs=1e-4)


def test_layer_takes_it_for_large_inputs_and_sees_every_change_of_the_weight():
    conv = Conv2d(128, 128, 3, padding=1, norm=FrozenBatchNorm2d(128), bias=False).eval()
    x = torch.randn(LARGE)
    with torch.no_grad():
        assert winograd.is_worthwhile(conv, x)
        for change in (lambda: None, lambda: conv.weight.mul_(2), lambda: conv.weight.data.add_(0.1)):
            change()
            expected = conv.norm(F.conv2d(x, conv.weight, padding=1))
            torch.testing.assert_close(conv(x), expected, atol=3e-4, rtol=1e-4)


class _Scaled(Conv2d):
    def _conv_forward(self, x, weight, bias):
        return 2 * super()._conv_forward(x, weight, bias)


@pytest.mark.parametrize(
    "conv",
    [
        Conv2d(128, 128, 3, padding=1, stride=2),
        Conv2d(128, 128, 3, padding=0),
        Conv2d(128, 128, 3, padding=2, dilation=2),
        Conv2d(128, 128, 3, padding=1, groups=2),
        Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        Conv2d(128, 128, 5, padding=1),
        Conv2d(128, 128, 3, padding=1).double(),
        _Scaled(128, 128, 3, padding=1),
    ],
    ids=["stride", "padding", "dilation", "groups", "reflection", "kernel", "double", "overridden"],
)
def test_other_convolutions_go_the_plain_way(conv):
    with torch.no_grad():
        assert not winograd.is_worthwhile(conv, torch.zeros(LARGE))


def test_not_where_gradients_are_wanted_nor_under_autocast_nor_for_small_maps():
    conv, x = Conv2d(128, 128, 3, padding=1), torch.zeros(LARGE)
    assert not winograd.is_worthwhile(conv, x)
    with torch.no_grad():
        assert winograd.is_worthwhile(conv, x)
        assert not winograd.is_worthwhile(conv, x[:, :, :20, :20])
        with torch.autocast("cpu", torch.bfloat16):
            assert not winograd.is_worthwhile(conv, x)
