"""Labelled images of one value each, with rectangles for objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from rcnnkit.data.augmentation.labelled_image import LabelledImage

Window = tuple[int, int, int, int]


@dataclass
class Drawn:
    """An object: its box is the rectangle; without a mask it has the box only; points are (x, y, visibility)."""

    box: Window
    has_mask: bool = True
    points: Sequence[tuple[float, float, int]] = ()
    category: int = 0


def labelled(size, value, *objects: Drawn, ignored: Sequence[Window] | None = None, masks=True, points=0):
    """A LabelledImage of (height, width) pixels of the value, with fields for masks and for as many keypoints."""
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor([one.box for one in objects], dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor([one.category for one in objects], dtype=torch.int64)
    if masks:
        drawn = [rectangle(size, one.box if one.has_mask else (0, 0, 0, 0)) for one in objects]
        instances.gt_masks = BitMasks(torch.stack(drawn) if drawn else torch.zeros((0, *size), dtype=torch.bool))
        instances.gt_has_mask = torch.tensor([one.has_mask for one in objects], dtype=torch.bool)
    if points:
        placed = np.zeros((len(objects), points, 3))
        for row, one in zip(placed, objects, strict=True):
            row[: len(one.points)] = np.reshape(one.points, (-1, 3))
        instances.gt_keypoints = Keypoints(placed)
        instances.gt_has_keypoints = torch.from_numpy((placed[:, :, 2] > 0).any(axis=1))
    regions = None if ignored is None else Boxes(torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4))
    return LabelledImage(np.full((*size, 3), value, dtype=np.uint8), instances, regions)


def rectangle(size, *boxes: Window) -> torch.Tensor:
    """(H, W) bool, true in the boxes."""
    mask = torch.zeros(size, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def boxes_of(image: LabelledImage) -> list[list[float]]:
    return image.instances.gt_boxes.tensor.tolist()


def points_of(image: LabelledImage) -> list[list[list[float]]]:
    return image.instances.gt_keypoints.tensor.tolist()
