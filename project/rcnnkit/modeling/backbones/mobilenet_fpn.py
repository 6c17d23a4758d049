"""torchvision's MobileNetV3 (Howard et al., ICCV 2019, https://arxiv.org/abs/1905.02244) with a feature pyramid.

Shapes: N images, C channels, H × W pixels.
"""

from typing import cast

import torch
import torchvision
from torch import nn

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from rcnnkit.errors import UserError, nearest

from .feature_backbone import FeatureBackbone, build_pyramid, check_strides
from .image_statistics import own_statistics
from .initial_weights import fill, fill_from_file, not_fetched, wants_initial_weights, warn_of_frozen_chance
from .norms import convert_norms, freeze_stages

MODELS = {"large": "mobilenet_v3_large", "small": "mobilenet_v3_small"}
# Of ImageNet, with which torchvision trains: RGB from 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_CHANNELS = 3


class MobileNetFeatures(nn.Module):
    """The last feature map of each stride; modules are named as in torchvision's weights (`features.0.0.weight`)."""

    def __init__(self, features: nn.Sequential, out_indices: list[int]):
        """
        Args:
            features: of a MobileNet; what follows the last index is left out.
            out_indices: numbers of the blocks after which there is a feature map.
        """
        super().__init__()
        self.features = features[: max(out_indices) + 1]
        self.out_indices = frozenset(out_indices)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) to a list of (N, C, H / stride, W / stride), finest first."""
        maps = []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self.out_indices:
                maps.append(x)
        return maps


def stage_ends(features: nn.Sequential) -> dict[int, tuple[int, int]]:
    """Stride in pixels → number of the last block that has it, and its channels."""
    ends = {}
    stride = 1
    for index, block in enumerate(features):
        convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        stride *= max(convolution.stride[0] for convolution in convolutions)
        ends[stride] = (index, cast(int, block.out_channels))
    return ends


@BACKBONE_REGISTRY.register()
def build_mobilenetv3_fpn_backbone(cfg, input_shape: ShapeSpec) -> Backbone:
    """MobileNetV3 as MODEL.MOBILENET says, under the pyramid of MODEL.FPN.

    Raises:
        UserError: a value of MODEL.MOBILENET that there is not, or a weight file that does not fit.
    """
    own, strides = cfg.MODEL.MOBILENET, tuple(cfg.MODEL.MOBILENET.OUT_STRIDES)
    if own.SIZE not in MODELS:
        raise UserError(
            f"MODEL.MOBILENET.SIZE: {own.SIZE!r} is unknown; choose one of {', '.join(nearest(own.SIZE, MODELS))}"
        )
    if not 0 < own.WIDTH < float("inf"):
        raise UserError(f"MODEL.MOBILENET.WIDTH: {own.WIDTH}; give a factor above 0, as 1.0 or 0.75")
    if input_shape.channels != IMAGE_CHANNELS:
        raise UserError(
            f"MODEL.MOBILENET: takes images of {IMAGE_CHANNELS} channels, but INPUT.FORMAT {cfg.INPUT.FORMAT} and "
            f"PIXEL_MEAN have {input_shape.channels}; use RGB or BGR"
        )
    model = torchvision.models.get_model(MODELS[own.SIZE], weights=None, width_mult=own.WIDTH)
    ends = stage_ends(model.features)
    check_strides(strides, "MODEL.MOBILENET.OUT_STRIDES")
    if not set(strides) <= set(ends):
        raise UserError(f"MODEL.MOBILENET.OUT_STRIDES: {strides}; the model has {', '.join(map(str, ends))}")
    net: nn.Module = MobileNetFeatures(model.features, [ends[stride][0] for stride in strides])
    _fill(cfg, net)
    warn_of_frozen_chance(cfg, "MOBILENET")
    net = convert_norms(net, own.NORM, "MODEL.MOBILENET.NORM")
    freeze_stages(
        net, cfg.MODEL.BACKBONE.FREEZE_AT, {stride: f"features.{index}" for stride, (index, _) in ends.items()}
    )
    channels = {stride: ends[stride][1] for stride in strides}
    statistics = own_statistics(cfg, "MOBILENET", MEAN, STD, input_shape.channels)
    return build_pyramid(cfg, FeatureBackbone(net, channels, statistics=statistics))


def _fill(cfg, net: nn.Module) -> None:
    own = cfg.MODEL.MOBILENET
    if not wants_initial_weights(cfg, "MOBILENET"):
        return
    if own.WEIGHTS:
        fill_from_file(net, own.WEIGHTS, "MODEL.MOBILENET.WEIGHTS")
    elif not next(net.parameters()).is_meta:
        name = MODELS[own.SIZE]
        try:
            published = torchvision.models.get_model_weights(name).DEFAULT.get_state_dict(check_hash=True)
        except Exception as error:  # urllib, ssl and the file system each raise their own kinds
            raise not_fetched("MOBILENET", f"torchvision's {name}", error) from error
        fill(net, published)
