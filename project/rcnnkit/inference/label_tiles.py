"""Labelled images in tiles of one size, with what is labelled drawn upon them, right or wrong.

Coordinates are absolute pixels of the image; factor is the size of the tile's picture over that of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import pycocotools.mask as mask_util

from detectron2.structures import BoxMode
from rcnnkit.data.images import ImageError, read_image
from rcnnkit.inference.drawing import DrawnObject, draw_objects

_CAPTION = 18  # pixels of height of a line of text
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FAR = 1e4  # pixels: what lies farther out is drawn there


def label_tile(
    record: dict, classes: Sequence[str], size: tuple[int, int], captions: Sequence[str], annotated: bool = True
) -> np.ndarray:
    """A tile with the image as large as it fits, its objects, and lines of text below.

    Args:
        record: as in `LabelledData`; what cannot be drawn in it is left out.
        size: (width, height) of the picture's place.
        captions: lines of text, cut to fit.
        annotated: without it, the image alone.

    Returns:
        (height + 18 per caption, width, 3) uint8 BGR.
    """
    width, height = size
    try:
        picture = read_image(record["file_name"], "BGR")
    except (ImageError, OSError):
        picture = np.full((height, width, 3), 128, np.uint8)
        cv2.putText(picture, "cannot be read", (8, height // 2), _FONT, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    shown = fitted(picture, size)
    if annotated:
        shape = (shown.shape[1], shown.shape[0])
        factors = (shape[0] / max(record["width"], 1), shape[1] / max(record["height"], 1))
        names = [*written(classes), *(f"{name} (crowd)" for name in classes), *(f"{name} (ignore)" for name in classes)]
        shown = draw_objects(shown, _objects(record, len(classes), factors, shape), names, scale=1)
    return framed(shown, size, captions)


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture (H, W, 3) as large as it fits into (width, height), its proportions kept."""
    width, height = size
    factor = min(width / picture.shape[1], height / picture.shape[0])
    shape = (max(round(picture.shape[1] * factor), 1), max(round(picture.shape[0] * factor), 1))
    return cv2.resize(picture, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def written(classes: Sequence[str]) -> list[str]:
    """What stands beside an object; nothing where there is but one class, whose name would hide the objects."""
    return list(classes) if len(classes) > 1 else [""] * len(classes)


def framed(shown: np.ndarray, size: tuple[int, int], captions: Sequence[str]) -> np.ndarray:
    """A picture in the middle of a place of (width, height) on white, with lines of text below."""
    width, height = size
    tile = np.full((height + _CAPTION * len(captions), width, 3), 255, np.uint8)
    shape = (shown.shape[1], shown.shape[0])
    top, left = (height - shape[1]) // 2, (width - shape[0]) // 2
    tile[top : top + shape[1], left : left + shape[0]] = shown
    for line, text in enumerate(captions):
        while text and cv2.getTextSize(text, _FONT, 0.38, 1)[0][0] > width - 6:
            text = text[:-2]
        place = (3, height + _CAPTION * line + 13)
        cv2.putText(tile, text, place, _FONT, 0.38, (30, 30, 30), 1, cv2.LINE_AA)
    return tile


def _objects(record: dict, num_classes: int, factors: tuple[float, float], shape: tuple[int, int]) -> list[DrawnObject]:
    """The objects of a record in pixels of the tile; `category` counts classes, crowds and ignored ones on."""
    objects = []
    for annotation in record["annotations"]:
        box = BoxMode.convert([float(v) for v in annotation["bbox"]], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        if not all(map(math.isfinite, box)):
            continue
        scaled = [min(max(value * factors[axis % 2], -_FAR), _FAR) for axis, value in enumerate(box)]
        category = annotation["category_id"]
        category += num_classes if annotation.get("iscrowd") else 2 * num_classes if annotation.get("ignore") else 0
        points = annotation.get("keypoints")
        keypoints = None
        if points and len(points) % 3 == 0 and all(map(math.isfinite, points)):
            keypoints = np.clip(np.reshape(np.asarray(points, float), (-1, 3)) * (*factors, 1), -_FAR, _FAR)
        mask = mask_at(annotation.get("segmentation"), factors, shape)
        objects.append(DrawnObject(category, (scaled[0], scaled[1], scaled[2], scaled[3]), None, mask, keypoints))
    return sorted(objects, key=lambda drawn: drawn.category < num_classes)  # crowds below


def mask_at(
    segmentation: list | dict | None, factors: tuple[float, float], shape: tuple[int, int]
) -> np.ndarray | None:
    """(H, W) bool of the size `shape`, (width, height); None where the segmentation is none, or none that can be drawn.

    Args:
        segmentation: polygons or run lengths, as COCO has them.
        factors: of x and y, by which polygons are enlarged; run lengths are stretched to the shape.
    """
    width, height = shape
    if isinstance(segmentation, dict):
        try:
            if isinstance(segmentation["counts"], list):
                segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
            decoded = mask_util.decode(segmentation)
        except (KeyError, TypeError, ValueError):
            return None
        return resized(decoded, shape)
    usable = []
    for polygon in segmentation or ():
        if len(polygon) >= 6 and len(polygon) % 2 == 0 and all(map(math.isfinite, polygon)):
            points = np.reshape(np.asarray(polygon, float), (-1, 2)) * factors
            usable.append(np.clip(points, -_FAR, _FAR).ravel().tolist())
    if not usable:
        return None
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(usable, height, width))).astype(bool)


def resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) at another size (width, height), bool: where at least half of a pixel is covered."""
    return cv2.resize(mask.astype(np.float32), shape, interpolation=cv2.INTER_AREA) >= 0.5
