"""Mask heads, registered in Detectron2's ROI_MASK_HEAD_REGISTRY."""

from .boundary_head import BoundaryMaskHead
from .quality_head import MaskQualityHead

__all__ = ["BoundaryMaskHead", "MaskQualityHead"]
