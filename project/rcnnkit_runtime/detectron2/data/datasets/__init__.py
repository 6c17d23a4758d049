"""Readers and writers of dataset formats, and the built-in datasets."""

from . import builtin, builtin_meta, coco, lvis, pascal_voc, register_coco
from .coco import convert_to_coco_json, load_coco_json, load_sem_seg, register_coco_instances
from .coco_panoptic import register_coco_panoptic, register_coco_panoptic_separated
from .lvis import get_lvis_instances_meta, load_lvis_json, register_lvis_instances
from .pascal_voc import load_voc_instances, register_pascal_voc

__all__ = [
    "builtin",
    "builtin_meta",
    "coco",
    "convert_to_coco_json",
    "get_lvis_instances_meta",
    "load_coco_json",
    "load_lvis_json",
    "load_sem_seg",
    "load_voc_instances",
    "lvis",
    "pascal_voc",
    "register_coco",
    "register_coco_instances",
    "register_coco_panoptic",
    "register_coco_panoptic_separated",
    "register_lvis_instances",
    "register_pascal_voc",
]
