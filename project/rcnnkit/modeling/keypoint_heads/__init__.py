"""Keypoint heads, registered in Detectron2's ROI_KEYPOINT_HEAD_REGISTRY."""

from .coordinate_head import CoordinateKeypointHead
from .subpixel_head import SubpixelKeypointHead

__all__ = ["CoordinateKeypointHead", "SubpixelKeypointHead"]
