"""Parts of models, registered in Detectron2's registries."""

from .anchors import RoundedAnchorGenerator

__all__ = ["RoundedAnchorGenerator"]
