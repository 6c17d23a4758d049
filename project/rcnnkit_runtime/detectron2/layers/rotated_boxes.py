"""Rotated boxes are outside the built-in engine: the name exists, a call raises NotImplementedError."""

from detectron2.utils.out_of_scope import refused_function

__all__ = ["pairwise_iou_rotated"]

pairwise_iou_rotated = refused_function(__name__, "pairwise_iou_rotated", "rotated boxes")
