"""Rotated boxes: the names exist, the built-in engine does not compute with them."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor

from detectron2.layers.rotated_boxes import pairwise_iou_rotated, rotated_unsupported
from detectron2.structures.boxes import Boxes


class RotatedBoxes(Boxes):
    """Raises NotImplementedError when it is built; good for ``isinstance``."""

    def __init__(self, tensor: Tensor) -> None:
        rotated_unsupported("RotatedBoxes")


def pairwise_iou(boxes1: RotatedBoxes, boxes2: RotatedBoxes) -> NoReturn:
    """Always raises NotImplementedError."""
    pairwise_iou_rotated(boxes1.tensor, boxes2.tensor)
