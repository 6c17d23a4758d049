"""Reading and augmenting training pictures with Detectron2's DatasetMapper: both engines by the same code."""

import logging
from pathlib import Path

import numpy as np
import torch

SOURCES = {"nuts": ("trainval.json", "images")}


class Mapper:
    """The default training mapper (shortest edge, flip, polygon masks) over the first pictures of a data set."""

    def __init__(self, annotations: str, images: str, pictures: int) -> None:
        from detectron2.config import get_cfg
        from detectron2.data import DatasetMapper
        from detectron2.data.datasets import load_coco_json

        logging.getLogger("detectron2").setLevel(logging.ERROR)
        cfg = get_cfg()
        cfg.MODEL.MASK_ON = True
        records = load_coco_json(annotations, images)
        self.records = [records[i % len(records)] for i in range(pictures)]
        self.mapper = DatasetMapper(cfg, is_train=True)

    def warm_up(self) -> dict:
        self.run()
        return {"pictures": len(self.records), "objects": sum(len(r["annotations"]) for r in self.records)}

    def run(self) -> None:
        np.random.seed(0)  # noqa: NPY002  Detectron2's augmentations draw from the global state
        torch.manual_seed(0)
        for record in self.records:
            self.mapper(record)


def find_source(real_data: Path, scratch: Path) -> tuple[str, Path, Path]:
    """Name, annotation file and picture folder: real photographs if present, else the embedded data set."""
    for name, (annotations, images) in SOURCES.items():
        folder = real_data / name
        if (folder / annotations).is_file():
            return name, folder / annotations, folder / images
    from rcnnkit.data.shapes import ensure_shapes

    root = scratch / "shapes"
    ensure_shapes(root, splits={"train": 48, "val": 1})
    annotations = next(root.rglob("*train*.json"))
    return "shapes", annotations, root / "train"
