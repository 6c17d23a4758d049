"""A network that gives feature maps becomes a Detectron2 backbone, and gets a feature pyramid.

Shapes: N images, C channels, H × W pixels.
"""

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from rcnnkit.errors import UserError


def feature_name(stride: int) -> str:
    """Detectron2's name for the features of a stride: res2 of 4 pixels, res3 of 8, ..."""
    return f"res{stride.bit_length() - 1}"


class FeatureBackbone(Backbone):
    """Feature maps by name, of exactly 1/stride of the image that is padded to a multiple of the largest stride."""

    def __init__(
        self,
        net: nn.Module,
        channels: Mapping[int, int],
        *,
        channels_last: bool = False,
        statistics: nn.Module | None = None,
    ):
        """
        Args:
            net: (N, C, H, W) images to a list of feature maps, finest first.
            channels: stride in pixels → channels of each of them, finest first.
            channels_last: the network's maps are (N, H, W, C).
            statistics: applied to the images first.
        """
        super().__init__()
        self.net = net
        self.statistics = statistics
        self.channels_last = channels_last
        self._out_features = [feature_name(stride) for stride in channels]
        self._out_feature_strides = dict(zip(self._out_features, channels))
        self._out_feature_channels = dict(zip(self._out_features, channels.values()))

    @property
    def size_divisibility(self) -> int:
        return max(self._out_feature_strides.values())

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images to (N, C', H', W') maps by name, finest first."""
        if self.statistics is not None:
            x = self.statistics(x)
        height, width = x.shape[-2:]
        below, right = -height % self.size_divisibility, -width % self.size_divisibility
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        features = self.net(x)
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return dict(zip(self._out_features, features))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map."""
        return super().output_shape()


def build_pyramid(cfg, bottom_up: FeatureBackbone) -> FPN:
    """The pyramid that MODEL.FPN describes, with a max-pooled level above it.

    Raises:
        UserError: MODEL.FPN.IN_FEATURES names a map that the backbone does not give.
    """
    given = list(bottom_up.output_shape())
    in_features = list(cfg.MODEL.FPN.IN_FEATURES) or given
    wrong = [name for name in in_features if name not in given]
    if wrong:
        raise UserError(f"MODEL.FPN.IN_FEATURES: {wrong[0]!r} is not given by the backbone; it has {', '.join(given)}")
    top_block = LastLevelMaxPool()
    top_block.in_feature = in_features[-1].replace("res", "p")
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def check_strides(strides: tuple[int, ...], key: str) -> None:
    """Refuse strides that a pyramid cannot be made of."""
    powers = [stride for stride in strides if stride >= 1 and stride & (stride - 1) == 0]
    if not strides or len(powers) < len(strides) or any(b != 2 * a for a, b in itertools.pairwise(strides)):
        raise UserError(f"{key}: {strides}; give powers of 2, each twice the one before, as (4, 8, 16, 32)")
