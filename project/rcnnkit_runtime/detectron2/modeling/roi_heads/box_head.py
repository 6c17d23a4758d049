"""The box head: from pooled box features to the vectors that are classified and regressed.

Shape letters: R boxes, C channels, H and W side of the pooled feature.
"""

import math
from typing import Any

import torch
from fvcore.nn import weight_init
from torch import nn

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm  # noqa: F401 - importable from here in Detectron2, too
from detectron2.modeling.roi_heads.conv_stack import add_conv_stack
from detectron2.utils.registry import Registry

__all__ = ["FastRCNNConvFCHead", "ROI_BOX_HEAD_REGISTRY", "build_box_head"]

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
ROI_BOX_HEAD_REGISTRY.__doc__ = """
Box heads, chosen by MODEL.ROI_BOX_HEAD.NAME: called as `head(cfg, input_shape)`, they map the features of R boxes,
(R, C, H, W), to features of R boxes of the shape that their `output_shape` tells.
"""


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3×3 convolutions, each with norm and ReLU, then fully connected layers with ReLU."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, conv_dims: list[int], fc_dims: list[int], conv_norm: Any = ""):
        """
        Args:
            input_shape: channels, height and width of the pooled feature.
            conv_dims: output channels of each convolution.
            fc_dims: output channels of each fully connected layer.
            conv_norm: norm of the convolutions, as `detectron2.layers.get_norm` reads it.
        """
        super().__init__()
        if len(conv_dims) + len(fc_dims) == 0:
            raise ValueError("FastRCNNConvFCHead: needs a layer; set ROI_BOX_HEAD.NUM_CONV or NUM_FC above 0")

        height: Any = input_shape.height
        width: Any = input_shape.width
        self.conv_norm_relus = add_conv_stack(self, "conv", input_shape.channels, conv_dims, conv_norm)
        channels: Any = conv_dims[-1] if conv_dims else input_shape.channels

        self._output_shape = ShapeSpec(channels=channels, height=height, width=width)
        self.fcs: list[nn.Module] = []
        features = channels if height is None else math.prod((channels, height, width))
        for number, dim in enumerate(fc_dims, start=1):
            if number == 1:
                self.add_module("flatten", nn.Flatten())
            fc = nn.Linear(features, dim)
            weight_init.c2_xavier_fill(fc)
            self.add_module(f"fc{number}", fc)
            self.add_module(f"fc_relu{number}", nn.ReLU())
            self.fcs.append(fc)
            features = dim
            self._output_shape = ShapeSpec(channels=dim)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(R, C, H, W) → (R, `output_shape`)."""
        for layer in self:
            x = layer(x)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Shape of one box's output: channels alone where the last layer is fully connected."""
        return self._output_shape


def build_box_head(cfg, input_shape: ShapeSpec) -> nn.Module:
    """The box head that MODEL.ROI_BOX_HEAD.NAME names."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
