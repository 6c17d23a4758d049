"""Feature pyramid network (Lin et al., 2017) and the extra levels above it."""

import itertools
import math
from typing import cast

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import nn

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling.backbone.backbone import Backbone
from detectron2.modeling.backbone.build import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import build_resnet_backbone

__all__ = ["FPN", "build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone"]


class FPN(Backbone):
    """Top-down pathway with lateral connections; outputs ``p<i>`` of stride 2^i, finest first."""

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: list[str],
        out_channels: int,
        norm="",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
    ) -> None:
        """
        Args:
            bottom_up: the backbone whose ``in_features`` are fused.
            in_features: finest first, each of twice the stride of the one before, e.g. ``["res2", "res3", "res4"]``.
            out_channels: of every output.
            norm: anything that ``get_norm`` takes; convolutions have a bias only without it.
            top_block: makes coarser levels. Has ``num_levels`` (how many) and ``in_feature`` (of what: a bottom-up or
                pyramid feature), and returns a list.
            fuse_type: ``sum`` or ``avg`` of the lateral and the top-down map.
            square_pad: pad images to squares of this side, 0 for no such wish.
        """
        super().__init__()
        assert isinstance(bottom_up, Backbone), f"bottom_up must be a Backbone, got {type(bottom_up)}"
        assert in_features, "in_features must name at least one feature"
        assert fuse_type in ("avg", "sum"), f"fuse_type must be 'avg' or 'sum', got {fuse_type!r}"

        input_shapes = bottom_up.output_shape()
        strides = [cast(int, input_shapes[name].stride) for name in in_features]
        _assert_strides_are_log2_contiguous(strides)

        use_bias = norm == ""
        lateral_convs: list[Conv2d] = []
        output_convs: list[Conv2d] = []
        for name, stride in zip(in_features, strides):
            lateral = Conv2d(
                input_shapes[name].channels,
                out_channels,
                kernel_size=1,
                bias=use_bias,
                norm=get_norm(norm, out_channels),
            )
            output = Conv2d(
                out_channels,
                out_channels,
                kernel_size=3,
                stride=1,
                padding=1,
                bias=use_bias,
                norm=get_norm(norm, out_channels),
            )
            weight_init.c2_xavier_fill(lateral)
            weight_init.c2_xavier_fill(output)
            level = int(math.log2(stride))
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
            lateral_convs.append(lateral)
            output_convs.append(output)
        # Coarsest first: the order in which the top-down pathway visits them.
        self.lateral_convs = lateral_convs[::-1]
        self.output_convs = output_convs[::-1]

        self.top_block = top_block
        self.in_features = tuple(in_features)
        self.bottom_up = bottom_up
        self._out_feature_strides = {f"p{int(math.log2(stride))}": stride for stride in strides}
        if top_block is not None:
            last_level = int(math.log2(strides[-1]))
            for level in range(last_level + 1, last_level + 1 + cast(int, top_block.num_levels)):
                self._out_feature_strides[f"p{level}"] = 2**level
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._size_divisibility = strides[-1]
        self._square_pad = square_pad
        self._fuse_type = fuse_type

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self._square_pad}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images to the pyramid: ``p2``, ``p3``, ... by name, finest first."""
        bottom_up_features = self.bottom_up(x)
        results: list[torch.Tensor] = []
        top_down: torch.Tensor | None = None
        for name, lateral_conv, output_conv in zip(reversed(self.in_features), self.lateral_convs, self.output_convs):
            fused = lateral_conv(bottom_up_features[name])
            if top_down is not None:
                fused = fused + F.interpolate(top_down, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    fused = fused / 2
            top_down = fused
            results.insert(0, output_conv(fused))

        if self.top_block is not None:
            top_input = bottom_up_features.get(self.top_block.in_feature)
            if top_input is None:
                top_input = results[self._out_features.index(self.top_block.in_feature)]
            results.extend(self.top_block(top_input))
        assert len(self._out_features) == len(results), f"{len(results)} maps for the outputs {self._out_features}"
        return dict(zip(self._out_features, results))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return super().output_shape()


def _assert_strides_are_log2_contiguous(strides: list[int]) -> None:
    """Each stride must be twice the one before."""
    for fine, coarse in itertools.pairwise(strides):
        assert coarse == 2 * fine, f"Strides {coarse} {fine} are not log2 contiguous"


class LastLevelMaxPool(nn.Module):
    """The level ``p6`` of the original FPN: every second value of ``p5``."""

    def __init__(self) -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [F.max_pool2d(x, kernel_size=1, stride=2, padding=0)]


class LastLevelP6P7(nn.Module):
    """RetinaNet's levels ``p6`` and ``p7``: strided convolutions on top of C5 or P5 (Lin et al., 2017, section 4)."""

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        super().__init__()
        self.num_levels = 2
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, kernel_size=3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            weight_init.c2_xavier_fill(conv)

    def forward(self, c5: torch.Tensor) -> list[torch.Tensor]:
        p6 = self.p6(c5)
        return [p6, self.p7(F.relu(p6))]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """ResNet with FPN and the max-pooled ``p6``, for R-CNN."""
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """ResNet with FPN and the convolutional ``p6`` and ``p7`` on ``res5``, for RetinaNet."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    out_channels = cfg.MODEL.FPN.OUT_CHANNELS
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=out_channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelP6P7(bottom_up.output_shape()["res5"].channels, out_channels),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
