"""LVIS JSON (https://www.lvisdataset.org/dataset): reading into records, categories, registration."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import _get_coco_instances_meta
from .lvis_v0_5_categories import LVIS_CATEGORIES as LVIS_V0_5_CATEGORIES
from .lvis_v1_categories import LVIS_CATEGORIES as LVIS_V1_CATEGORIES
from .lvis_v1_category_image_count import LVIS_CATEGORY_IMAGE_COUNT as LVIS_V1_CATEGORY_IMAGE_COUNT

__all__ = ["get_lvis_instances_meta", "load_lvis_json", "register_lvis_instances"]

logger = logging.getLogger(__name__)


def read_lvis_file(json_file: str) -> dict[str, Any]:
    """The parsed file, checked to have LVIS' lists; an image list without annotations gets an empty one.

    Raises:
        FileNotFoundError, ValueError: one line that begins with the file's name.
    """
    try:
        with PathManager.open(json_file, "r") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{json_file}: the annotation file does not exist") from None
    except ValueError as error:  # of JSON and of its text encoding
        raise ValueError(f"{json_file}: not whole JSON (truncated?): {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{json_file}: not LVIS: the top level is a {type(content).__name__}, not an object")
    for key in ("images", "categories"):
        if not isinstance(content.get(key), list):
            raise ValueError(f"{json_file}: not LVIS: there is no list '{key}'; it has {sorted(map(str, content))[:8]}")
    return content


def _image_path(image: dict[str, Any], image_root: str, json_file: str) -> str:
    """v1 tells folder and name by the end of `coco_url`; v0.5 has COCO's names of 2014, of which 2017 kept the end."""
    if "coco_url" in image:
        return os.path.join(image_root, *image["coco_url"].split("/")[-2:])
    if "file_name" not in image:
        raise ValueError(
            f"{json_file}: image with id {image.get('id', 'unknown')} has neither 'coco_url' nor 'file_name'"
        )
    name = image["file_name"]
    return os.path.join(image_root, name.rpartition("_")[2] if name.startswith("COCO_") else name)


def _class_of(dataset_name: str | None) -> dict[int, int] | None:
    """{category id: class} of the named dataset, whose metadata are completed; None where class = id - 1."""
    if dataset_name is None:
        return None
    metadata = MetadataCatalog.get(dataset_name)
    if metadata.get("thing_classes") is None:
        metadata.set(**get_lvis_instances_meta(dataset_name))
    return metadata.get("thing_dataset_id_to_contiguous_id")


def load_lvis_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Read an LVIS file into records.

    Args:
        json_file: the annotation file of v0.5 or v1, or a list of test images.
        image_root: the folder that holds COCO's `train2017`, `val2017` and `test2017`.
        dataset_name: the name under which LVIS' classes become metadata, see `get_lvis_instances_meta`; metadata that
            are there stay. A metadata `thing_dataset_id_to_contiguous_id` maps category ids to classes.
        extra_annotation_keys: keys of an annotation to keep besides bbox, category_id and segmentation.

    Returns:
        list[dict] ordered by image id. Boxes are XYWH_ABS, segmentations polygons, classes count from 0. Beside the
        usual keys: `neg_category_ids` (categories that the image is known not to show) and
        `not_exhaustive_category_ids` (those of which not all objects are annotated), both as in the file.

    Raises:
        FileNotFoundError, ValueError: one line that begins with the file's name and names the entry.
    """
    class_of = _class_of(dataset_name)
    content = read_lvis_file(json_file)
    extra_keys = list(extra_annotation_keys or ())
    records = {}
    for image in sorted(content["images"], key=lambda image: image["id"]):
        records[image["id"]] = {
            "file_name": _image_path(image, image_root, json_file),
            "height": image["height"],
            "width": image["width"],
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
            "neg_category_ids": image.get("neg_category_ids", []),
            "image_id": image["id"],
            "annotations": [],
        }
    if len(records) != len(content["images"]):
        raise ValueError(f"{json_file}: {len(content['images'])} images share {len(records)} ids; ids must be unique")
    for annotation in content.get("annotations", ()):
        record = records.get(annotation["image_id"])
        if record is None:
            raise ValueError(
                f"{json_file}: annotation with id {annotation.get('id')} has image_id {annotation['image_id']}, "
                "which is not in the list of images"
            )
        record["annotations"].append(_object_of(annotation, class_of, extra_keys, json_file))
    logger.info(f"{json_file}: {len(records)} images with LVIS annotations")
    return list(records.values())


def _object_of(
    annotation: dict[str, Any], class_of: dict[int, int] | None, extra_keys: list[str], json_file: str
) -> dict[str, Any]:
    category = annotation["category_id"]
    if class_of is not None and category not in class_of:
        raise ValueError(
            f"{json_file}: annotation with id {annotation.get('id')} has category_id {category}, which the dataset's "
            "thing_dataset_id_to_contiguous_id does not have"
        )
    polygons = annotation["segmentation"]
    if not all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons):
        raise ValueError(
            f"{json_file}: annotation with id {annotation.get('id')} has a polygon that is not three or more x, y pairs"
        )
    return {
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category - 1 if class_of is None else class_of[category],
        "segmentation": polygons,
        **{key: annotation[key] for key in extra_keys if key in annotation},
    }


def register_lvis_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
    """Register an LVIS file as a dataset; the file is read when the dataset is first used.

    Args:
        name: e.g. "lvis_v1_train".
        metadata: further metadata (may be {}).
        json_file: the annotation file.
        image_root: see `load_lvis_json`.
    """
    DatasetCatalog.register(name, lambda: load_lvis_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="lvis", **metadata)


def get_lvis_instances_meta(dataset_name: str) -> dict[str, Any]:
    """Metadata by the name of a dataset: COCO's 80 classes for "…cocofied", LVIS' for "…v0.5…" and "…v1…".

    Raises:
        ValueError: the name tells neither.
    """
    if "cocofied" in dataset_name:
        return _get_coco_instances_meta()
    if "v0.5" in dataset_name:
        return _get_lvis_instances_meta_v0_5()
    if "v1" in dataset_name:
        return _get_lvis_instances_meta_v1()
    raise ValueError(f"No built-in metadata for dataset {dataset_name}: its name has none of cocofied, v0.5 and v1")


def _get_lvis_instances_meta_v0_5() -> dict[str, Any]:
    return {"thing_classes": _main_synonyms(LVIS_V0_5_CATEGORIES)}


def _get_lvis_instances_meta_v1() -> dict[str, Any]:
    return {
        "thing_classes": _main_synonyms(LVIS_V1_CATEGORIES),
        "class_image_count": LVIS_V1_CATEGORY_IMAGE_COUNT,
    }


def _main_synonyms(categories: list[dict[str, Any]]) -> list[str]:
    """The first synonym of each category, by ascending id; ids run from 1 without gaps."""
    return [category["synonyms"][0] for category in sorted(categories, key=lambda category: category["id"])]
