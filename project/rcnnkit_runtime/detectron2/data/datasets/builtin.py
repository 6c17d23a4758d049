"""Registers the built-in datasets below $DETECTRON2_DATASETS (default ./datasets); nothing is read until one is used.

Expected layout:
    coco/annotations/{instances,person_keypoints}_{train,val}2017.json, coco/{train,val}2017/*.jpg
    lvis/lvis_v1_{train,val}.json, with COCO's images
    VOC{2007,2012}/{Annotations,ImageSets,JPEGImages}
"""

from __future__ import annotations

import os

from ..catalog import MetadataCatalog
from .builtin_meta import _get_builtin_metadata
from .lvis import get_lvis_instances_meta, register_lvis_instances
from .pascal_voc import register_pascal_voc
from .register_coco import register_coco_instances


def _coco_splits(prefix: str, kind: str) -> dict[str, tuple[str, str]]:
    """{name: (image folder, annotation file)} of the splits that instances and person keypoints both have."""
    splits = {"2014": ("train", "val", "minival", "valminusminival"), "2017": ("train", "val", "val_100")}
    table = {}
    for year, parts in splits.items():
        for part in parts:
            folder = f"coco/{'train' if part == 'train' else 'val'}{year}"
            stem = f"{part.removesuffix('_100')}{year}{'_100' if part.endswith('_100') else ''}"
            table[f"{prefix}_{year}_{part}"] = (folder, f"coco/annotations/{kind}_{stem}.json")
    return table


_PREDEFINED_SPLITS_COCO: dict[str, dict[str, tuple[str, str]]] = {
    "coco": {
        **_coco_splits("coco", "instances"),
        "coco_2017_test": ("coco/test2017", "coco/annotations/image_info_test2017.json"),
        "coco_2017_test-dev": ("coco/test2017", "coco/annotations/image_info_test-dev2017.json"),
    },
    "coco_person": _coco_splits("keypoints_coco", "person_keypoints"),
}


def register_all_coco(root: str) -> None:
    """Register COCO 2014 and 2017, instances and person keypoints, below the folder `root`."""
    for family, splits in _PREDEFINED_SPLITS_COCO.items():
        for name, (image_root, json_file) in splits.items():
            register_coco_instances(
                name,
                _get_builtin_metadata(family),
                os.path.join(root, json_file) if "://" not in json_file else json_file,
                os.path.join(root, image_root),
            )


def _lvis_splits(version: str, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    """{name: (image folder, annotation file)}, from {split: end of the file's name}."""
    return {f"lvis_{version}_{split}": ("coco/", f"lvis/lvis_{version}_{end}.json") for split, end in files.items()}


_PREDEFINED_SPLITS_LVIS: dict[str, dict[str, tuple[str, str]]] = {
    "lvis_v1": _lvis_splits(
        "v1",
        {
            "train": "train",
            "val": "val",
            "test_dev": "image_info_test_dev",
            "test_challenge": "image_info_test_challenge",
        },
    ),
    "lvis_v0.5": _lvis_splits(
        "v0.5", {"train": "train", "val": "val", "val_rand_100": "val_rand_100", "test": "image_info_test"}
    ),
    "lvis_v0.5_cocofied": _lvis_splits("v0.5", {"train_cocofied": "train_cocofied", "val_cocofied": "val_cocofied"}),
}


def register_all_lvis(root: str) -> None:
    """Register LVIS v1 and v0.5, and the v0.5 annotations that have COCO's classes, below the folder `root`."""
    for family, splits in _PREDEFINED_SPLITS_LVIS.items():
        metadata = get_lvis_instances_meta(family)
        for name, (image_root, json_file) in splits.items():
            register_lvis_instances(
                name,
                metadata,
                os.path.join(root, json_file) if "://" not in json_file else json_file,
                os.path.join(root, image_root),
            )


_PASCAL_VOC_SPLITS = {2007: ("trainval", "train", "val", "test"), 2012: ("trainval", "train", "val")}


def register_all_pascal_voc(root: str) -> None:
    """Register the splits of Pascal VOC 2007 and 2012 below the folder `root`."""
    for year, splits in _PASCAL_VOC_SPLITS.items():
        for split in splits:
            name = f"voc_{year}_{split}"
            register_pascal_voc(name, os.path.join(root, f"VOC{year}"), split, year)
            MetadataCatalog.get(name).evaluator_type = "pascal_voc"


_root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
register_all_coco(_root)
register_all_lvis(_root)
register_all_pascal_voc(_root)
