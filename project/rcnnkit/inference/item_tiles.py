"""What a model sees in training, in tiles of one size: items of the mapper with their labels drawn upon them.

Coordinates are absolute pixels of the item's image; shape is (width, height) of the tile's picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from detectron2.structures import BitMasks, Instances
from rcnnkit.errors import UserError
from rcnnkit.inference.drawing import DrawnObject, draw_objects
from rcnnkit.inference.label_tiles import fitted, framed, mask_at, resized, written

TO_BGR = {"BGR": None, "RGB": cv2.COLOR_RGB2BGR, "L": cv2.COLOR_GRAY2BGR}


def item_tile(
    item: dict,
    classes: Sequence[str],
    image_format: str,
    size: tuple[int, int],
    captions: Sequence[str],
    annotated: bool = True,
) -> np.ndarray:
    """A tile with the item's image as large as it fits, its objects and ignored regions, and lines of text below.

    Args:
        item: of `LabelMapper` in training.
        image_format: INPUT.FORMAT.
        size: (width, height) of the picture's place.
        captions: lines of text, cut to fit.
        annotated: without it, the image alone.

    Returns:
        (height + 18 per caption, width, 3) uint8 BGR.
    """
    shown = fitted(_picture(item["image"], image_format), size)
    if annotated:
        objects = _objects(item, len(classes), (shown.shape[1], shown.shape[0]))
        shown = draw_objects(shown, objects, [*written(classes), "ignored"], scale=1)
    return framed(shown, size, captions)


def _picture(image: torch.Tensor, image_format: str) -> np.ndarray:
    """(C, H, W) → (H, W, 3) uint8 BGR."""
    if image_format not in TO_BGR:
        raise UserError(f"INPUT.FORMAT: {image_format!r} cannot be drawn; those that can: {', '.join(TO_BGR)}")
    picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    code = TO_BGR[image_format]
    return picture if code is None else cv2.cvtColor(picture, code)


def _objects(item: dict, num_classes: int, shape: tuple[int, int]) -> list[DrawnObject]:
    """In pixels of the tile; ignored regions, below all others, have the category after the last."""
    instances: Instances = item["instances"]
    height, width = instances.image_size
    factors = (shape[0] / width, shape[1] / height)
    objects = []
    if "ignored" in item:
        for box in item["ignored"].tensor.numpy():
            objects.append(DrawnObject(num_classes, _box(box, factors)))
    fields = instances.get_fields()
    for index, category in enumerate(fields["gt_classes"].tolist()):
        points = None
        if "gt_keypoints" in fields:
            points = fields["gt_keypoints"].tensor[index].numpy() * (*factors, 1)
        box = _box(fields["gt_boxes"].tensor[index].numpy(), factors)
        objects.append(DrawnObject(category, box, None, _mask(instances, index, factors, shape), points))
    return objects


def _box(box: np.ndarray, factors: tuple[float, float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (box * (*factors, *factors)).tolist()
    return x0, y0, x1, y1


def _mask(instances: Instances, index: int, factors: tuple[float, float], shape: tuple[int, int]) -> np.ndarray | None:
    if not instances.has("gt_masks") or not instances.gt_has_mask[index]:
        return None
    masks = instances.gt_masks
    if isinstance(masks, BitMasks):
        return resized(masks.tensor[index].numpy(), shape)
    return mask_at([polygon.tolist() for polygon in masks.polygons[index]], factors, shape)
