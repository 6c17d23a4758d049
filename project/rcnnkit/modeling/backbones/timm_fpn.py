"""Any feature extractor of timm with a feature pyramid."""

from typing import cast

from torch import nn

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from rcnnkit.errors import UserError

from .feature_backbone import FeatureBackbone, build_pyramid, check_strides
from .image_statistics import own_statistics
from .initial_weights import fill_from_file, not_fetched, wants_initial_weights, warn_of_frozen_chance
from .norms import convert_norms, freeze_stages
from .timm_models import Extractor, check_name, import_timm, make_extractor


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg, input_shape: ShapeSpec) -> Backbone:
    """The model of timm that MODEL.TIMM names, under the pyramid of MODEL.FPN.

    Raises:
        UserError: timm is not installed, has no such model, or the model cannot be used; a weight file does not fit;
            weights are asked for and cannot be fetched.
    """
    own = cfg.MODEL.TIMM
    layers = import_timm().layers
    extractor = _build_extractor(cfg, cast(int, input_shape.channels))
    net = extractor.net
    if wants_initial_weights(cfg, "TIMM") and own.WEIGHTS:
        fill_from_file(net, own.WEIGHTS, "MODEL.TIMM.WEIGHTS")
    warn_of_frozen_chance(cfg, "TIMM")
    # timm's batch norms can hold the activation that follows; its own conversions keep it.
    net = convert_norms(
        net,
        own.NORM,
        "MODEL.TIMM.NORM",
        frozen=layers.freeze_batch_norm_2d,
        synchronised=layers.convert_sync_batchnorm,
    )
    freeze_stages(net, cfg.MODEL.BACKBONE.FREEZE_AT, extractor.stages, layers.freeze_batch_norm_2d)
    if own.CHECKPOINT_ACTIVATIONS:
        _checkpoint_activations(net, own.NAME)
    statistics = own_statistics(cfg, "TIMM", extractor.mean, extractor.std, input_shape.channels)
    bottom_up = FeatureBackbone(net, extractor.channels, channels_last=extractor.channels_last, statistics=statistics)
    return build_pyramid(cfg, bottom_up)


def _build_extractor(cfg, in_channels: int) -> Extractor:
    own = cfg.MODEL.TIMM
    strides = tuple(own.OUT_STRIDES)
    check_strides(strides, "MODEL.TIMM.OUT_STRIDES")
    if not 0 <= own.DROP_PATH_RATE < 1:
        raise UserError(f"MODEL.TIMM.DROP_PATH_RATE: {own.DROP_PATH_RATE}; give a share of at least 0 and below 1")
    check_name(own.NAME)
    pretrained = own.PRETRAINED and wants_initial_weights(cfg, "TIMM") and _has_values()
    options = {"in_channels": in_channels, "drop_path_rate": own.DROP_PATH_RATE}
    try:
        return make_extractor(own.NAME, strides, pretrained=pretrained, **options)
    except UserError:
        raise
    except Exception as error:  # the hub, its HTTP client and the file system each raise their own kinds
        if not pretrained:
            raise
        raise not_fetched("TIMM", f"timm's {own.NAME}", error) from error


def _has_values() -> bool:
    """Whether what is built now gets memory: on the meta device, where configs are tried, nothing is fetched."""
    return not nn.Linear(1, 1).weight.is_meta


def _checkpoint_activations(net: nn.Module, name: str) -> None:
    switch = getattr(net, "set_grad_checkpointing", None) or getattr(
        getattr(net, "model", None), "set_grad_checkpointing", None
    )
    try:
        if switch is None:
            raise AttributeError("no set_grad_checkpointing")
        switch(True)
    except (AttributeError, AssertionError) as error:
        raise UserError(
            f"MODEL.TIMM.CHECKPOINT_ACTIVATIONS: True, but {name!r} cannot compute activations again; set it to False"
        ) from error
