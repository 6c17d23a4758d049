"""Deformable convolution (Dai et al., ICCV 2017; with modulation, Zhu et al., CVPR 2019) on torchvision's operator.

Shapes: N images, C_in and C_out channels, kh x kw kernel, G_d deformable groups, H' x W' output pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d


def deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    deformable_groups: int = 1,
    im2col_step: int = 64,
) -> Tensor:
    """Convolve at displaced positions.

    Args:
        input: (N, C_in, H, W).
        offset: (N, 2 * G_d * kh * kw, H', W'), pairs of (y, x) displacements in pixels of the input.
        weight: (C_out, C_in / groups, kh, kw).
        groups, deformable_groups: must agree with the shapes; the operator reads them off the tensors.
        im2col_step: accepted for compatibility, without effect.
    """
    return deform_conv2d(input, offset, weight, None, _pair(stride), _pair(padding), _pair(dilation))


def modulated_deform_conv(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    deformable_groups: int = 1,
) -> Tensor:
    """``deform_conv`` with a factor per position: mask is (N, G_d * kh * kw, H', W'), bias (C_out,)."""
    return deform_conv2d(input, offset, weight, bias, _pair(stride), _pair(padding), _pair(dilation), mask)


class _DeformableConv(nn.Module):
    """What both layers share: the weight, its initialisation, norm and activation."""

    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Any = None,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"channels {in_channels} -> {out_channels} cannot be divided into {groups} groups")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)
        self.dilation = _pair(dilation)
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.with_bias = bias
        self.norm = norm
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_channels))
        else:
            self.bias = None

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        if x.numel() == 0:
            x = x.new_empty((x.shape[0], self.out_channels, *offset.shape[-2:]))
        else:
            x = deform_conv2d(x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask)
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def extra_repr(self) -> str:
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups}, "
            f"deformable_groups={self.deformable_groups}, bias={self.with_bias}"
        )


class DeformConv(_DeformableConv):
    """Deformable convolution with optional norm and activation; no bias.

    Args:
        deformable_groups: groups of input channels that have displacements of their own.
        norm, activation: applied after the convolution, or None.
        The others are those of ``torch.nn.Conv2d``; bias must stay False.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Any = None,
    ) -> None:
        assert not bias, "DeformConv has no bias; use ModulatedDeformConv or a norm"
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deformable_groups,
            False,
            norm,
            activation,
        )

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Map (N, C_in, H, W) and offsets as ``deform_conv`` takes them to (N, C_out, H', W')."""
        return self._convolve(x, offset, None)


class ModulatedDeformConv(_DeformableConv):
    """Deformable convolution with a factor per sampled position; arguments as ``DeformConv``, bias allowed."""

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Map (N, C_in, H, W), offsets and factors as ``modulated_deform_conv`` takes them to (N, C_out, H', W')."""
        return self._convolve(x, offset, mask)
