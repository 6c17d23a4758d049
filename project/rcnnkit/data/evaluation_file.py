"""The COCO JSON file that a data set is evaluated with, where it has none of its own that says the same."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from rcnnkit.data.label_counts import has_mask
from rcnnkit.data.labelled import LabelledData, Skeleton
from rcnnkit.data.registration import registered
from rcnnkit.data.writers.coco import write_coco


def file_slug(name: str) -> str:
    """A file name of a data set's name; paths are shortened to their end and get a mark of their own."""
    slug = re.sub(r"\W+", "_", name).strip("_")
    if slug == name:
        return name
    return f"{slug[-60:].strip('_')}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def needs_evaluation_file(name: str) -> bool:
    """Whether COCO's evaluator would find no file that has the data set's records and classes."""
    metadata = MetadataCatalog.get(name)
    written = metadata.get("evaluation_file")
    served_anew = registered(name) is not None or metadata.get("served_classes") is not None
    return served_anew and (metadata.get("json_file") is None or metadata.get("json_file") == written)


def evaluation_file(name: str, folder: Path) -> Path:
    """Where the file of a data set lies."""
    return folder / f"{file_slug(name)}_coco_format.json"


def write_evaluation_file(name: str, path: Path) -> None:
    """Write the records of a data set, with the classes of the model, for COCO's evaluator; whole or not at all.

    Objects to be ignored become crowd regions of each class: neither right nor wrong whatever is predicted there.
    Those without a mask have their box as one.
    Where the data have keypoints, every object gets them: COCO's evaluation of keypoints leaves out objects whose
    points all have visibility 0, and fails on objects that have none.
    """
    metadata = MetadataCatalog.get(name)
    classes = list(metadata.thing_classes)
    names = tuple(metadata.get("keypoint_names") or ())
    unlabelled = {"keypoints": [0] * (3 * len(names))} if names else {}
    records = []
    for record in DatasetCatalog.get(name):
        judged = [one for annotation in record.get("annotations", ()) for one in _judged(annotation, len(classes))]
        records.append({**record, "annotations": [{**unlabelled, **annotation} for annotation in judged]})
    ids = metadata.thing_dataset_id_to_contiguous_id
    points = {index: Skeleton(names) for index in range(len(classes))} if names else {}
    write_coco(LabelledData("coco", classes, records, [], points, sorted(ids, key=ids.get)), path)


def set_evaluation_file(name: str, path: Path) -> None:
    """Name the file in the metadata, in the place of an earlier run's."""
    metadata = MetadataCatalog.get(name)
    for key in ("json_file", "evaluation_file"):
        if metadata.get(key) is not None:
            delattr(metadata, key)
    metadata.set(json_file=str(path), evaluation_file=str(path))


def _judged(annotation: dict, num_classes: int) -> list[dict]:
    if annotation.get("ignore"):
        flagged = _with_mask({key: value for key, value in annotation.items() if key != "ignore"})
        return [{**flagged, "iscrowd": 1, "category_id": index} for index in range(num_classes)]
    return [_with_mask(annotation) if annotation.get("iscrowd") else annotation]


def _with_mask(region: dict) -> dict:
    """A region with a mask, its own or its box: the evaluation of masks fails on those that have none."""
    if has_mask(region):
        return region
    x0, y0, x1, y1 = BoxMode.convert(list(region["bbox"]), region["bbox_mode"], BoxMode.XYXY_ABS)
    return {**region, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
