"""Readers and writers of dataset formats, and the built-in datasets."""

from . import builtin, builtin_meta, coco, register_coco
from .coco import convert_to_coco_json, load_coco_json, load_sem_seg, register_coco_instances

__all__ = [
    "builtin",
    "builtin_meta",
    "coco",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco",
    "register_coco_instances",
]
