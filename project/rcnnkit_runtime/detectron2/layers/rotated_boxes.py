"""IoU of rotated boxes: the name exists, the built-in engine does not compute it."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor


def rotated_unsupported(name: str) -> NoReturn:
    """Say that ``name`` belongs to rotated boxes, which the built-in engine leaves out."""
    raise NotImplementedError(
        f"{name}: rotated boxes are outside the built-in engine; install Detectron2 and set RCNNKIT_ENGINE=detectron2"
    )


def pairwise_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> NoReturn:
    """Always raises NotImplementedError."""
    rotated_unsupported("pairwise_iou_rotated")
