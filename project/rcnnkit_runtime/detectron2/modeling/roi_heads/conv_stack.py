"""The convolutions that a head begins with."""

from collections.abc import Sequence
from typing import Any

from fvcore.nn import weight_init
from torch import nn

from detectron2.layers import Conv2d, get_norm


def add_conv_stack(
    head: nn.Module, prefix: str, channels: Any, conv_dims: Sequence[int], conv_norm: Any
) -> list[nn.Module]:
    """Add 3×3 convolutions, each with norm and ReLU, to a head as its modules `<prefix>1`, `<prefix>2`, …

    Args:
        channels: of the input.
        conv_dims: output channels of each convolution.
        conv_norm: norm of the convolutions, as `detectron2.layers.get_norm` reads it.

    Returns:
        The convolutions in order.
    """
    convs: list[nn.Module] = []
    for number, dim in enumerate(conv_dims, start=1):
        conv = Conv2d(
            channels,
            dim,
            kernel_size=3,
            padding=1,
            bias=not conv_norm,
            norm=get_norm(conv_norm, dim),
            activation=nn.ReLU(),
        )
        weight_init.c2_msra_fill(conv)
        head.add_module(f"{prefix}{number}", conv)
        convs.append(conv)
        channels = dim
    return convs
