"""Rotated boxes are outside the built-in engine: the names exist, a use raises NotImplementedError."""

from detectron2.utils.out_of_scope import refused_class, refused_function

__all__ = ["ROIAlignRotated", "roi_align_rotated"]

ROIAlignRotated = refused_class(__name__, "ROIAlignRotated", "rotated boxes")
roi_align_rotated = refused_function(__name__, "roi_align_rotated", "rotated boxes")
