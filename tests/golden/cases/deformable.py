"""Stand-ins for the deformable convolutions of a stock Detectron2 that was installed without its compiled operators."""

import contextlib
import importlib
from collections.abc import Iterator

import torch
from torch import nn
from torchvision.ops import deform_conv2d


class OnTorchvision(nn.Module):
    """Detectron2's DeformConv or, called with a mask, ModulatedDeformConv; parameters under the same names."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, deformable_groups=1,
        bias=False, norm=None, activation=None,
    ):  # fmt: skip
        super().__init__()
        self.options = {"stride": stride, "padding": padding, "dilation": dilation}
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.norm = norm
        self.activation = activation

    def forward(self, x, offset, mask=None):
        x = deform_conv2d(x, offset, self.weight, self.bias, mask=mask, **self.options)
        x = x if self.norm is None else self.norm(x)
        return x if self.activation is None else self.activation(x)


@contextlib.contextmanager
def usable_deformable_layers() -> Iterator[None]:
    """Models built inside may have deformable stages; an engine whose own layers work keeps them."""
    resnet = importlib.import_module("detectron2.modeling.backbone.resnet")
    saved = resnet.DeformConv, resnet.ModulatedDeformConv
    if not issubclass(saved[0], nn.Module):
        resnet.DeformConv = resnet.ModulatedDeformConv = OnTorchvision
    try:
        yield
    finally:
        resnet.DeformConv, resnet.ModulatedDeformConv = saved
