"""Test-time augmentation: the views of a picture, and the merged boxes and masks of two narrow models."""

import numpy as np
import torch

from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNNWithTTA
from tests.golden.cases import models

VIEWS = ["TEST.AUG.MIN_SIZES", (64, 96), "TEST.AUG.MAX_SIZE", 120]


def _augmented(name: str):
    cfg = models.config(name)
    cfg.merge_from_list(VIEWS)
    return cfg


def _inputs() -> list[dict]:
    first, second = models.images()
    return [
        {"image": first, "height": models.HEIGHT, "width": models.WIDTH},
        {"image": second, "height": 2 * second.shape[1], "width": 2 * second.shape[2]},
    ]


def views() -> dict:
    """Images of the views of a picture whose results are wanted at twice its size, and a box moved into each."""
    out = {}
    for index, view in enumerate(DatasetMapperTTA(_augmented("narrow_giou"))(_inputs()[1])):
        out[f"shape_{index}"] = np.array([*view["image"].shape, view["height"], view["width"]])
        out[f"image_{index}"] = view["image"].numpy()[:, ::4, ::4].astype(np.float32)
        out[f"boxes_{index}"] = view["transforms"].apply_box(np.array([[10.0, 20.0, 100.0, 90.0]]))
    return out


def detections(name: str) -> dict:
    """Detections of two pictures, merged from four views of each."""
    model = GeneralizedRCNNWithTTA(_augmented(name), models.build(name).eval())
    out = {}
    with torch.no_grad():
        for index, output in enumerate(model(_inputs())):
            out.update(models.detections(output["instances"], index))
    return out


CASES = {
    "tta_views": views,
    "tta_mask": lambda: detections("narrow_giou"),
    "tta_agnostic": lambda: detections("narrow_agnostic"),
}
