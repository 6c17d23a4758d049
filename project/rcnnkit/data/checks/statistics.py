"""What a part of a data set holds: classes, objects per image, sizes (√(width · height) of the box, in pixels)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from rcnnkit.data.checks.boxes import box_kinds
from rcnnkit.data.checks.classes import class_counts
from rcnnkit.data.checks.places import objects_of
from rcnnkit.data.labelled import LabelledData


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts and distributions. N: objects with a usable box, crowds left out; I: images."""

    images: int
    empty_images: int
    objects: int
    crowds: int
    with_masks: int
    with_keypoints: int
    classes: dict[str, int]  # objects of each
    images_of_class: dict[str, int]  # images that hold it
    per_image: np.ndarray  # (I,) objects of each image, crowds left out
    sizes: np.ndarray  # (N,) pixels
    ratios: np.ndarray  # (N,) height / width
    image_sizes: np.ndarray  # (I, 2) width and height
    object_images: np.ndarray  # (N, 2) width and height of the image of each object

    def as_json(self) -> dict:
        """Numbers and quantiles, without the arrays."""
        plain = {name: value for name, value in asdict(self).items() if not isinstance(value, np.ndarray)}
        plain["objects_per_image"] = quantiles(self.per_image)
        plain["object_size"] = quantiles(self.sizes)
        plain["object_height_by_width"] = quantiles(self.ratios)
        plain["image_width"], plain["image_height"] = (quantiles(self.image_sizes[:, axis]) for axis in (0, 1))
        return plain


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Minimum, 5, 50, 95 % and maximum; empty without values."""
    if not len(values):
        return {}
    found = np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
    return {name: round(float(value), 3) for name, value in zip(("min", "p5", "p50", "p95", "max"), found, strict=True)}


def statistics_of(parts: Sequence[LabelledData]) -> Statistics:
    """The statistics of one or several parts together."""
    counts: Counter[str] = sum((class_counts(data) for data in parts), Counter())
    holders: Counter[str] = Counter()
    for data in parts:
        for record in data.records:
            holders.update({data.classes[annotation["category_id"]] for annotation in record["annotations"]})
    records = [record for data in parts for record in data.records]
    annotations = [annotation for record in records for annotation in record["annotations"]]
    tables = [objects_of(data) for data in parts]
    boxes = np.concatenate([table.boxes for table in tables]) if tables else np.zeros((0, 4))
    borders = np.concatenate([table.sizes for table in tables]) if tables else np.zeros((0, 2))
    crowd = np.array([bool(annotation.get("iscrowd")) for annotation in annotations], bool)
    usable = (box_kinds(boxes, borders) == "") & ~crowd & np.isfinite(borders).all(1)
    sides = boxes[usable, 2:] - boxes[usable, :2]
    return Statistics(
        images=len(records),
        empty_images=sum(not record["annotations"] for record in records),
        objects=len(annotations),
        crowds=int(crowd.sum()),
        with_masks=sum(bool(annotation.get("segmentation")) for annotation in annotations),
        with_keypoints=sum(any((annotation.get("keypoints") or ())[2::3]) for annotation in annotations),
        classes={name: counts[name] for name in dict.fromkeys(name for data in parts for name in data.classes)},
        images_of_class=dict(holders),
        per_image=np.array(
            [sum(not entry.get("iscrowd") for entry in record["annotations"]) for record in records], int
        ),
        sizes=np.sqrt(sides.prod(1)),
        ratios=sides[:, 1] / sides[:, 0],
        image_sizes=np.array([(record["width"], record["height"]) for record in records], float).reshape(-1, 2),
        object_images=borders[usable],
    )
