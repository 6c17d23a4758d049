"""Semantic segmentation is outside the built-in engine; heads of projects' own can be registered and built."""

from typing import Any

from torch import nn

from detectron2.utils.out_of_scope import refused_class
from detectron2.utils.registry import Registry

__all__ = ["SEM_SEG_HEADS_REGISTRY", "SemSegFPNHead", "SemanticSegmentor", "build_sem_seg_head"]

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = "Semantic segmentation heads: called with (cfg, input_shape)."

SemSegFPNHead = SEM_SEG_HEADS_REGISTRY.register()(refused_class(__name__, "SemSegFPNHead", "semantic segmentation"))
SemanticSegmentor = refused_class(__name__, "SemanticSegmentor", "semantic segmentation")


def build_sem_seg_head(cfg: Any, input_shape: Any) -> nn.Module:
    """Build the head that MODEL.SEM_SEG_HEAD.NAME names in the registry."""
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)
