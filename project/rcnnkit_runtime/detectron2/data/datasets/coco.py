"""COCO JSON (https://cocodataset.org/#format-data): reading into records, writing records back, registration."""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from fvcore.common.timer import Timer
from iopath.common.file_io import file_lock

from detectron2.structures import BoxMode, PolygonMasks
from detectron2.utils.file_io import PathManager
from detectron2.utils.whole_file import write_whole

from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = ["convert_to_coco_json", "load_coco_json", "load_sem_seg", "register_coco_instances"]

logger = logging.getLogger(__name__)


def _read_coco_file(json_file: str) -> dict[str, Any]:
    """The parsed file, checked to have COCO's lists; one-line errors that begin with the file's name."""
    try:
        with PathManager.open(json_file, "r") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{json_file}: the annotation file does not exist") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{json_file}: not JSON: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{json_file}: not whole JSON (truncated?): {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{json_file}: not COCO: the top level is a {type(content).__name__}, not an object")
    if "annotations" not in content and os.path.basename(json_file).startswith("image_info_"):
        # the published lists of test images carry no ground truth
        content["annotations"] = []
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            state = f"'{key}' is a {type(content[key]).__name__}, not a list" if key in content else f"no '{key}'"
            raise ValueError(f"{json_file}: not COCO: {state}; it has {sorted(map(str, content))[:8]}")
    return content


def _require(entry: Any, keys: Sequence[str], json_file: str, what: str) -> None:
    """Raise ValueError unless the entry has the keys."""
    if not isinstance(entry, dict):
        raise ValueError(f"{json_file}: an entry of the list of {what}s is {entry!r}, not an object")
    for key in keys:
        if key not in entry:
            raise ValueError(f"{json_file}: {what} with id {entry.get('id', 'unknown')} has no '{key}'")


def _index_images(images: list[dict], json_file: str) -> dict[Any, dict]:
    """{id: image}, sorted by id."""
    for image in images:
        _require(image, ("id", "file_name", "height", "width"), json_file, "image")
    by_id = {image["id"]: image for image in sorted(images, key=lambda image: image["id"])}
    if len(by_id) != len(images):
        twice = next(key for key, count in Counter(image["id"] for image in images).items() if count > 1)
        raise ValueError(f"{json_file}: image id {twice} appears more than once")
    return by_id


def _check_annotations(annotations: list[dict], images: dict[Any, dict], json_file: str) -> None:
    for ann in annotations:
        _require(ann, ("image_id",), json_file, "annotation")
        if ann["image_id"] not in images:
            raise ValueError(
                f"{json_file}: annotation with id {ann.get('id', 'unknown')} has image_id {ann['image_id']}, "
                "which is not in the list of images"
            )
        if ann.get("ignore", 0) != 0:
            raise ValueError(
                f"{json_file}: annotation with id {ann.get('id', 'unknown')} has 'ignore' {ann['ignore']}; "
                "remove such annotations, or mark crowds with 'iscrowd'"
            )
    ids = [ann["id"] for ann in annotations if "id" in ann]
    # the published 2014 minival files have duplicates, which do no harm
    if len(set(ids)) != len(ids) and "minival" not in json_file:
        twice = next(key for key, count in Counter(ids).items() if count > 1)
        raise ValueError(f"{json_file}: annotation id {twice} appears more than once")


def _contiguous_ids(categories: list[dict], dataset_name: str, json_file: str) -> dict[Any, int]:
    """{category id: 0 … K−1} in the order of ids; sets the dataset's metadata."""
    for category in categories:
        _require(category, ("id", "name"), json_file, "category")
    ordered = sorted(categories, key=lambda category: category["id"])
    id_map = {category["id"]: position for position, category in enumerate(ordered)}
    if len(id_map) != len(ordered):
        twice = next(key for key, count in Counter(c["id"] for c in ordered).items() if count > 1)
        raise ValueError(f"{json_file}: category id {twice} appears more than once")
    metadata = MetadataCatalog.get(dataset_name)
    metadata.thing_classes = [category["name"] for category in ordered]
    if min(id_map, default=1) != 1 or max(id_map, default=0) != len(id_map):
        logger.warning(
            f"{json_file}: category ids are not 1 … {len(id_map)}; classes are numbered by their order and metadata "
            "thing_dataset_id_to_contiguous_id has the ids"
        )
    metadata.thing_dataset_id_to_contiguous_id = id_map
    return id_map


def _usable_segmentation(ann: dict, image: dict, json_file: str) -> Any:
    """Compressed RLE, or polygons of at least three points; None where no polygon is."""
    segmentation = ann["segmentation"]
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if counts is None or "size" not in segmentation:
            raise ValueError(f"{json_file}: annotation with id {ann.get('id')} has an RLE without 'counts' and 'size'")
        if list(segmentation["size"]) != [image["height"], image["width"]]:
            raise ValueError(
                f"{json_file}: annotation with id {ann.get('id')} has an RLE of size {segmentation['size']}, "
                f"its image (id {image['id']}) has [{image['height']}, {image['width']}] (h, w)"
            )
        if isinstance(counts, list):
            return mask_util.frPyObjects(segmentation, *segmentation["size"])
        return segmentation
    if not isinstance(segmentation, list):
        raise ValueError(
            f"{json_file}: annotation with id {ann.get('id')} has a segmentation of type "
            f"{type(segmentation).__name__}; polygons (list of lists) or RLE (object) are known"
        )
    return [polygon for polygon in segmentation if len(polygon) % 2 == 0 and len(polygon) >= 6] or None


def _check_numbers(ann: dict, json_file: str) -> None:
    """Raise ValueError for a box that is not four finite numbers or keypoints that are not triples."""
    try:
        box = np.asarray(ann["bbox"], dtype=np.float64)
        is_good = box.shape == (4,) and bool(np.isfinite(box).all())
    except (TypeError, ValueError):
        is_good = False
    if not is_good:
        raise ValueError(
            f"{json_file}: annotation with id {ann.get('id')} has 'bbox' {ann['bbox']}; it takes x, y, w, h"
        )
    if len(ann.get("keypoints") or ()) % 3:
        raise ValueError(
            f"{json_file}: annotation with id {ann.get('id')} has {len(ann['keypoints'])} numbers in 'keypoints'; "
            "they come in threes (x, y, visibility)"
        )


def _moved_keypoints(keypoints: Sequence[float], shift: float) -> list[float]:
    """Move x and y of a flat x, y, visibility list: COCO gives indices of pixels, whose centres lie half a pixel on."""
    return [value + shift if position % 3 != 2 else value for position, value in enumerate(keypoints)]


def _object_of(ann: dict, image: dict, keys: Sequence[str], id_map: dict | None, json_file: str) -> dict | None:
    """A record's annotation from the file's; None where it has polygons and none of them is usable."""
    _require(ann, ("bbox", "category_id"), json_file, "annotation")
    _check_numbers(ann, json_file)
    obj = {key: ann[key] for key in keys if key in ann}
    if ann.get("segmentation"):
        obj["segmentation"] = _usable_segmentation(ann, image, json_file)
        if obj["segmentation"] is None:
            return None
    if obj.get("keypoints"):
        obj["keypoints"] = _moved_keypoints(obj["keypoints"], 0.5)
    obj["bbox_mode"] = BoxMode.XYWH_ABS
    if id_map is not None:
        if obj["category_id"] not in id_map:
            raise ValueError(
                f"{json_file}: annotation with id {ann.get('id')} has category_id {obj['category_id']}, "
                f"which is not in the list of categories ({sorted(id_map)[:10]} …)"
            )
        obj["category_id"] = id_map[obj["category_id"]]
    return obj


def load_coco_json(json_file, image_root, dataset_name=None, extra_annotation_keys=None):
    """Read a COCO instance or keypoint file into records.

    Args:
        json_file: the annotation file.
        image_root: the folder of its images.
        dataset_name: if given, categories are numbered 0 … K−1 and the dataset's metadata `thing_classes` and
            `thing_dataset_id_to_contiguous_id` are set; otherwise category ids stay as they are.
        extra_annotation_keys: keys of an annotation to keep besides iscrowd, bbox, keypoints, category_id and
            segmentation.

    Returns:
        list[dict] ordered by image id; boxes are XYWH_ABS, segmentations polygons or compressed RLE.

    Raises:
        FileNotFoundError, ValueError: one line that begins with the file's name and names the entry.
    """
    timer = Timer()
    json_file = PathManager.get_local_path(json_file) if PathManager.exists(json_file) else json_file
    content = _read_coco_file(json_file)
    if timer.seconds() > 1:
        logger.info(f"{json_file}: read and parsed in {timer.seconds():.1f} s")

    images = _index_images(content["images"], json_file)
    _check_annotations(content["annotations"], images, json_file)
    id_map = None if dataset_name is None else _contiguous_ids(content["categories"], dataset_name, json_file)
    keys = ("iscrowd", "bbox", "keypoints", "category_id", *(extra_annotation_keys or []))

    records = {
        image_id: {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image_id,
            "annotations": [],
        }
        for image_id, image in images.items()
    }
    num_without_mask = 0
    for ann in content["annotations"]:
        obj = _object_of(ann, images[ann["image_id"]], keys, id_map, json_file)
        if obj is None:
            num_without_mask += 1
        else:
            records[ann["image_id"]]["annotations"].append(obj)
    logger.info(f"{json_file}: {len(records)} images with COCO annotations")
    if num_without_mask:
        logger.warning(
            f"{json_file}: {num_without_mask} objects are left out for their polygons, none of which has three or more "
            "points given as x, y"
        )
    return list(records.values())


def load_sem_seg(gt_root, image_root, gt_ext="png", image_ext="jpg"):
    """Pair the images of a folder with label images of the same relative path.

    Args:
        gt_root: folder of label images, one integer label per pixel.
        image_root: folder of images.
        gt_ext, image_ext: endings of the file names.

    Returns:
        list[dict] with "file_name" and "sem_seg_file_name", ordered by path. Images without labels (and labels without
        images) are left out with a warning.
    """

    def by_stem(root: str, extension: str) -> dict[str, str]:
        names = sorted(name for name in PathManager.ls(root) if name.endswith(extension))
        return {name[: -len(extension)].rstrip("."): os.path.join(root, name) for name in names}

    images, labels = by_stem(image_root, image_ext), by_stem(gt_root, gt_ext)
    if not labels:
        raise ValueError(f"{gt_root}: no label image (*.{gt_ext}) in the folder")
    both = [stem for stem in images if stem in labels]
    if len(both) < max(len(images), len(labels)):
        logger.warning(
            f"{image_root} and {gt_root} have {len(images)} and {len(labels)} files; {len(both)} are in both"
        )
    return [{"file_name": images[stem], "sem_seg_file_name": labels[stem]} for stem in both]


def _coco_segmentation(segmentation: Any, bbox_area: float) -> tuple[Any, float]:
    """(segmentation as JSON takes it, its area in pixels)."""
    if isinstance(segmentation, list):
        return segmentation, float(PolygonMasks([segmentation]).area()[0].item())
    if not isinstance(segmentation, dict):
        raise TypeError(f"Unknown segmentation type {type(segmentation)}: polygons (list) or RLE (dict) are known")
    area = float(mask_util.area(segmentation).item())
    if isinstance(segmentation["counts"], bytes):
        segmentation = {**segmentation, "counts": segmentation["counts"].decode("ascii")}
    return segmentation, area


def _coco_keypoints(keypoints: Sequence[float]) -> tuple[list[float], int]:
    """Keypoints in COCO's coordinates, and how many of them are labelled."""
    shifted = _moved_keypoints(keypoints, -0.5)
    return shifted, sum(visibility > 0 for visibility in shifted[2::3])


def _coco_annotation(annotation: dict, image_id: Any, annotation_id: int, reverse_id: Any) -> dict[str, Any]:
    bbox = annotation["bbox"]
    from_mode = annotation["bbox_mode"]
    to_mode = BoxMode.XYWH_ABS
    if isinstance(bbox, np.ndarray):
        bbox = bbox.tolist()
    if len(bbox) == 5:
        if from_mode != BoxMode.XYWHA_ABS:
            raise ValueError(f"image_id {image_id}: a box of five numbers needs bbox_mode XYWHA_ABS, got {from_mode}")
        to_mode = BoxMode.XYWHA_ABS
    xywh = BoxMode.convert(bbox, from_mode, to_mode)
    area = float(xywh[2] * xywh[3])
    result: dict[str, Any] = {
        "id": annotation_id,
        "image_id": image_id,
        "bbox": [round(float(value), 3) for value in xywh],
        "area": area,
        "iscrowd": int(annotation.get("iscrowd", 0)),
        "category_id": int(reverse_id(annotation["category_id"])),
    }
    if "keypoints" in annotation:
        result["keypoints"], result["num_keypoints"] = _coco_keypoints(annotation["keypoints"])
    if "segmentation" in annotation:
        result["segmentation"], result["area"] = _coco_segmentation(annotation["segmentation"], area)
    return result


def convert_to_coco_dict(dataset_name):
    """The records of a registered dataset as the object of a COCO file, with the dataset's own category ids."""
    records = DatasetCatalog.get(dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    id_map = metadata.get("thing_dataset_id_to_contiguous_id")
    to_dataset_id = {contiguous: original for original, contiguous in id_map.items()} if id_map is not None else None

    def reverse_id(contiguous: int) -> int:
        return contiguous if to_dataset_id is None else to_dataset_id[contiguous]

    images, annotations = [], []
    for position, record in enumerate(records):
        image_id = record.get("image_id", position)
        images.append(
            {
                "id": image_id,
                "width": int(record["width"]),
                "height": int(record["height"]),
                "file_name": str(record["file_name"]),
            }
        )
        for annotation in record.get("annotations", ()):
            annotations.append(_coco_annotation(annotation, image_id, len(annotations) + 1, reverse_id))
    logger.info(f"{dataset_name}: {len(images)} images and {len(annotations)} objects as COCO JSON")
    return {
        "info": {
            "date_created": str(datetime.datetime.now()),
            "description": f"{dataset_name}, written from its records",
        },
        "images": images,
        "categories": [
            {"id": reverse_id(position), "name": name} for position, name in enumerate(metadata.thing_classes)
        ],
        "licenses": None,
        "annotations": annotations,
    }


def convert_to_coco_json(dataset_name, output_file, allow_cached=True):
    """Write a registered dataset as a COCO file, whole or not at all.

    Args:
        dataset_name: registered.
        output_file: where; its folder is made.
        allow_cached: leave a file that is there.
    """
    PathManager.mkdirs(os.path.dirname(output_file) or ".")
    with file_lock(output_file):
        if PathManager.exists(output_file) and allow_cached:
            logger.warning(f"{output_file} is there already and is used as it is")
            return
        content = convert_to_coco_dict(dataset_name)
        logger.info(f"Writing {dataset_name} as COCO JSON to {output_file}")
        write_whole(PathManager.get_local_path(output_file), lambda file: file.write(json.dumps(content).encode()))


def register_coco_instances(name, metadata, json_file, image_root):
    """Register a COCO instance or keypoint file as a dataset; the file is read when the dataset is first used.

    Args:
        name: e.g. "nuts_train".
        metadata: further metadata (may be {}).
        json_file: the annotation file.
        image_root: the folder of its images.
    """
    for value, what in ((name, "name"), (json_file, "json_file"), (image_root, "image_root")):
        if not isinstance(value, (str, os.PathLike)):
            raise AssertionError(f"register_coco_instances: {what} must be a string, got {value!r}")
    DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)
