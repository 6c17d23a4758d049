"""Registers the built-in datasets below $DETECTRON2_DATASETS (default ./datasets); nothing is read until one is used.

Expected layout: coco/annotations/{instances,person_keypoints}_{train,val}2017.json, coco/{train,val}2017/*.jpg.
"""

from __future__ import annotations

import os

from .builtin_meta import _get_builtin_metadata
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


_root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
register_all_coco(_root)
