"""Rotated boxes are outside the built-in engine: the names exist (`isinstance` may ask), a use raises."""

from detectron2.layers.rotated_boxes import pairwise_iou_rotated
from detectron2.utils.out_of_scope import refused_class, refused_function

__all__ = ["RotatedBoxes", "pairwise_iou", "pairwise_iou_rotated"]

RotatedBoxes = refused_class(__name__, "RotatedBoxes", "rotated boxes")
pairwise_iou = refused_function(__name__, "pairwise_iou", "rotated boxes")
