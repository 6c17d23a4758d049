"""The pooler of one branch of the RoI heads, built from its part of the config."""

from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler


def _scales(in_features: list[str], input_shape: dict[str, Any]) -> tuple[float, ...]:
    return tuple(1.0 / input_shape[name].stride for name in in_features)


def common_channels(in_features: list[str], input_shape: dict[str, Any]) -> int:
    channels = {name: input_shape[name].channels for name in in_features}
    if len(set(channels.values())) != 1:
        raise ValueError(f"The feature maps of the RoI heads must have equally many channels, got {channels}")
    return channels[in_features[0]]


def build_pooler(head_cfg, in_features: list[str], input_shape: dict[str, ShapeSpec]) -> ROIPooler:
    return ROIPooler(
        output_size=head_cfg.POOLER_RESOLUTION,
        scales=_scales(in_features, input_shape),
        sampling_ratio=head_cfg.POOLER_SAMPLING_RATIO,
        pooler_type=head_cfg.POOLER_TYPE,
    )


def build_branch_pooler(head_cfg, in_features: list[str], input_shape: dict[str, ShapeSpec]):
    """Pooler and input shape of a mask or keypoint head; an empty POOLER_TYPE hands the head the feature maps."""
    if not head_cfg.POOLER_TYPE:
        return None, {name: input_shape[name] for name in in_features}
    side = head_cfg.POOLER_RESOLUTION
    channels = common_channels(in_features, input_shape)
    return build_pooler(head_cfg, in_features, input_shape), ShapeSpec(channels=channels, width=side, height=side)
