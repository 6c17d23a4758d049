"""The interface of backbones: networks that turn an image batch into named feature maps."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from detectron2.layers import ShapeSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, metaclass=ABCMeta):
    """Base class of backbones.

    Subclasses set ``_out_features`` (names), ``_out_feature_channels`` and ``_out_feature_strides`` (dicts by name),
    or override ``output_shape``.
    """

    _out_features: Sequence[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images to feature maps by name."""

    @property
    def size_divisibility(self) -> int:
        """Image heights and widths must be a multiple of this number; 0 where any size will do."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """More wishes on the padding: ``size_divisibility`` and ``square_size``; see ``ImageList.from_tensors``."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output feature."""
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }
