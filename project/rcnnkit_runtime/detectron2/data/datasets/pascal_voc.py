"""Pascal VOC (http://host.robots.ox.ac.uk/pascal/VOC): Annotations/*.xml, ImageSets/Main/*.txt, JPEGImages/*.jpg."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from detectron2.utils.registry import nearest_first

from ..catalog import DatasetCatalog, MetadataCatalog

__all__ = ["load_voc_instances", "register_pascal_voc"]

# fmt: off
CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc_xml(path: str) -> Element:
    """The root of a VOC annotation; entities, which could blow up or read other files, are refused.

    Raises:
        FileNotFoundError, ValueError: one line that begins with the file's name.
    """
    try:
        with PathManager.open(path, "rb") as file:
            return parse(file).getroot()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: the annotation file does not exist") from None
    except DefusedXmlException as error:
        raise ValueError(f"{path}: refused: XML with entities or a document type ({error})") from None
    except ParseError as error:
        raise ValueError(f"{path}: not whole XML (truncated?): {error}") from None


def text_at(element: Element, tag: str, path: str) -> str:
    """The text at `tag` ("size/width") below the element; ValueError naming file and tag where it is missing."""
    text = element.findtext(tag)
    if text is None:
        raise ValueError(f"{path}: <{element.tag}> has no <{tag}>")
    return text.strip()


def number_at(element: Element, tag: str, path: str) -> float:
    """The number at `tag` below the element."""
    text = text_at(element, tag, path)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path}: <{tag}> is {text!r}, not a number") from None


def read_image_ids(path: str) -> list[str]:
    """The image names of a file of ImageSets/Main: the first word of each line that has one."""
    try:
        with PathManager.open(path) as file:
            return [line.split()[0] for line in file if line.strip()]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: the list of images does not exist") from None


def _object_of(element: Element, class_of: dict[str, int], path: str) -> dict[str, Any]:
    """VOC counts pixels from 1 and includes the last one: the box covers [xmin - 1, xmax] × [ymin - 1, ymax]."""
    name = text_at(element, "name", path)
    if name not in class_of:
        nearest = nearest_first(name, list(class_of))[:5]
        raise ValueError(f"{path}: an object is a {name!r}, which is not among the class names (nearest: {nearest})")
    x0, y0, x1, y1 = (number_at(element, f"bndbox/{corner}", path) for corner in _CORNERS)
    return {"category_id": class_of[name], "bbox": [x0 - 1.0, y0 - 1.0, x1, y1], "bbox_mode": BoxMode.XYXY_ABS}


def load_voc_instances(dirname: str, split: str, class_names: list[str] | tuple[str, ...]) -> list[dict[str, Any]]:
    """Read the boxes of a Pascal VOC folder into records; objects marked difficult are included.

    Args:
        dirname: the folder with Annotations, ImageSets and JPEGImages.
        split: a list in ImageSets/Main, e.g. "trainval".
        class_names: class k is the k-th name.

    Returns:
        list[dict] in the order of the list; image ids are the files' names without ending, boxes XYXY_ABS.

    Raises:
        FileNotFoundError, ValueError: one line that begins with the file's name.
    """
    class_of = {name: index for index, name in enumerate(class_names)}
    annotations = PathManager.get_local_path(os.path.join(dirname, "Annotations"))
    records = []
    for image_id in read_image_ids(os.path.join(dirname, "ImageSets", "Main", f"{split}.txt")):
        path = os.path.join(annotations, f"{image_id}.xml")
        root = read_voc_xml(path)
        records.append(
            {
                "file_name": os.path.join(dirname, "JPEGImages", f"{image_id}.jpg"),
                "image_id": image_id,
                "height": int(number_at(root, "size/height", path)),
                "width": int(number_at(root, "size/width", path)),
                "annotations": [_object_of(element, class_of, path) for element in root.iter("object")],
            }
        )
    return records


def register_pascal_voc(
    name: str, dirname: str, split: str, year: int, class_names: Sequence[str] = CLASS_NAMES
) -> None:
    """Register a Pascal VOC folder as a dataset; it is read when the dataset is first used.

    Args:
        name: e.g. "voc_2007_trainval".
        dirname, split, class_names: see `load_voc_instances`.
        year: 2007 evaluates with the 11-point AP, any other year with the area under the curve.
    """
    names = list(class_names)
    DatasetCatalog.register(name, lambda: load_voc_instances(dirname, split, names))
    MetadataCatalog.get(name).set(thing_classes=names, dirname=dirname, year=year, split=split)
