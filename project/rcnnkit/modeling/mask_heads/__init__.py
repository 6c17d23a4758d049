"""Mask heads, registered in Detectron2's ROI_MASK_HEAD_REGISTRY."""

from .quality_head import MaskQualityHead

__all__ = ["MaskQualityHead"]
