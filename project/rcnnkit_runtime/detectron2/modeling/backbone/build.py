"""Registry of backbones."""

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.backbone import Backbone
from detectron2.utils.registry import Registry

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = """
Backbones, called as ``builder(cfg, input_shape)`` with a ``CfgNode`` and a ``ShapeSpec``; each returns a ``Backbone``.
"""


def build_backbone(cfg, input_shape: ShapeSpec | None = None) -> Backbone:
    """The backbone named by ``cfg.MODEL.BACKBONE.NAME``; the input has the channels of ``PIXEL_MEAN`` unless said."""
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg, input_shape)
    assert isinstance(backbone, Backbone), f"{cfg.MODEL.BACKBONE.NAME} built a {type(backbone)}, not a Backbone"
    return backbone
