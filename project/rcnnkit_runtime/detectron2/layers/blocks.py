"""Building blocks of convolutional backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fvcore.nn import weight_init
from torch import Tensor, nn

from detectron2.layers.batch_norm import FrozenBatchNorm2d, get_norm
from detectron2.layers.wrappers import Conv2d


class CNNBlockBase(nn.Module):
    """Base of blocks that map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the whole block.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> CNNBlockBase:
        """Stop training the block: no gradients, batch norms become constant. Returns the block."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A convolution per channel, then a 1x1 convolution across channels (Chollet, "Xception", CVPR 2017).

    Args:
        in_channels, out_channels: channels of input and output.
        kernel_size, padding, dilation: of the per-channel convolution.
        norm1, norm2: norms after the first and second convolution, as ``get_norm`` takes them.
        activation1, activation2: callables after the norms, or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: Any = None,
        activation1: Callable[[Tensor], Tensor] | None = None,
        norm2: Any = None,
        activation2: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size=kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels,
            out_channels,
            kernel_size=1,
            bias=not norm2,
            norm=get_norm(norm2, out_channels),
            activation=activation2,
        )
        weight_init.c2_msra_fill(self.depthwise)
        weight_init.c2_msra_fill(self.pointwise)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W')."""
        return self.pointwise(self.depthwise(x))
