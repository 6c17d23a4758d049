"""Axis-aligned boxes and the formats in which they come.

Shapes: N, M boxes. Frame: absolute pixels, XYXY, continuous coordinates (a box from 0 to 1 covers one pixel).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import IntEnum, unique
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, device

_RawBox = TypeVar("_RawBox", list, tuple, np.ndarray, Tensor)


@unique
class BoxMode(IntEnum):
    """The numbers that describe a box.

    XYXY_ABS: x0, y0, x1, y1 in pixels. XYWH_ABS: x0, y0, width, height in pixels. XYXY_REL, XYWH_REL: the same as
    fractions of the image's size. XYWHA_ABS: centre x, centre y, width, height in pixels and angle in degrees, counter-
    clockwise.
    """

    XYXY_ABS = 0
    XYWH_ABS = 1
    XYXY_REL = 2
    XYWH_REL = 3
    XYWHA_ABS = 4

    @staticmethod
    def convert(box: _RawBox, from_mode: BoxMode, to_mode: BoxMode) -> _RawBox:
        """Convert boxes to another format.

        Args:
            box: one box as list or tuple, or (N, 4) boxes (N, 5 for XYWHA_ABS) as array or tensor.
            from_mode, to_mode: formats.

        Returns:
            The converted boxes in a container of the same type; the input stays as it was. Floats of a list or tuple
            come rounded to float32, an array and a tensor keep their precision.

        Raises:
            AssertionError: wrong length, or a relative format is involved.
            NotImplementedError: no conversion between these two formats.
        """
        if from_mode == to_mode:
            return box
        from_mode, to_mode = BoxMode(from_mode), BoxMode(to_mode)
        relative = (BoxMode.XYXY_REL, BoxMode.XYWH_REL)
        assert from_mode not in relative and to_mode not in relative, "Relative mode not yet supported!"
        if isinstance(box, (list, tuple)):
            assert len(box) in (4, 5), f"BoxMode.convert takes 4 or 5 numbers per box, got {len(box)}"
            values = np.asarray(box)
            if np.issubdtype(values.dtype, np.floating):
                # Training is sensitive: anchors inside a large object tie in IoU, or do not, by a box's last bit.
                values = values.astype(np.float32)
            (converted,) = BoxMode._convert_array(values[None], from_mode, to_mode).tolist()
            return type(box)(converted)
        if isinstance(box, np.ndarray):
            return BoxMode._convert_array(box, from_mode, to_mode)
        return BoxMode._convert_array(box.numpy(force=True), from_mode, to_mode, like=box)

    @staticmethod
    def _convert_array(box: np.ndarray, from_mode: BoxMode, to_mode: BoxMode, like: Tensor | None = None) -> Any:
        numbers = 5 if from_mode == BoxMode.XYWHA_ABS else 4
        assert box.ndim == 2 and box.shape[1] == numbers, (
            f"The last dimension of input shape must be {numbers} for {from_mode.name}: boxes of shape (N, {numbers}), "
            f"got {box.shape}"
        )
        if (from_mode, to_mode) == (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
            out = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)
        elif (from_mode, to_mode) == (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS):
            out = np.concatenate([box[:, :2], box[:, 2:] + box[:, :2]], axis=1)
        elif (from_mode, to_mode) == (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS):
            centres = box[:, :2] + box[:, 2:] / 2
            out = np.concatenate([centres, box[:, 2:], np.zeros_like(box[:, :1])], axis=1)
        elif (from_mode, to_mode) == (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS):
            out = _enclose_rotated(box)
        else:
            raise NotImplementedError(f"no conversion from {from_mode.name} to {to_mode.name}")
        if np.issubdtype(box.dtype, np.floating):
            out = out.astype(box.dtype, copy=False)
        return out if like is None else torch.from_numpy(out).to(like.device)


def _enclose_rotated(box: np.ndarray) -> np.ndarray:
    """The smallest upright box around each rotated (centre x, centre y, w, h, degrees) one."""
    centre, size = box[:, :2].astype(np.float64), box[:, 2:4].astype(np.float64)
    angle = box[:, 4].astype(np.float64) * (math.pi / 180)
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    half = np.stack([cos * size[:, 0] + sin * size[:, 1], sin * size[:, 0] + cos * size[:, 1]], axis=1) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


class Boxes:
    """Boxes as a float32 tensor of shape (N, 4).

    Args:
        tensor: (N, 4) tensor, or what ``torch.as_tensor`` makes into one; empty input of any shape gives (0, 4).
    """

    def __init__(self, tensor: Tensor | np.ndarray | Sequence[Sequence[float]]) -> None:
        if isinstance(tensor, Tensor):
            tensor = tensor.to(torch.float32)
        else:
            tensor = torch.as_tensor(tensor, dtype=torch.float32, device=torch.device("cpu"))
        if tensor.numel() == 0:
            # A reshape, not a new tensor: the loss over no boxes still reaches the parameters that made it.
            tensor = tensor.reshape((-1, 4))
        assert tensor.dim() == 2 and tensor.size(-1) == 4, f"Boxes have shape (N, 4), got {tuple(tensor.shape)}"
        self.tensor: Tensor = tensor

    def clone(self) -> Boxes:
        """A copy that shares no memory."""
        return type(self)(self.tensor.clone())

    def to(self, device: torch.device | str) -> Boxes:
        """The boxes on another device."""
        return type(self)(self.tensor.to(device=device))

    def area(self) -> Tensor:
        """(N,) areas."""
        x0, y0, x1, y1 = self.tensor.unbind(1)
        return (x1 - x0) * (y1 - y0)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Limit coordinates, in place, to an image of (height, width).

        Raises:
            AssertionError: a coordinate is infinite or NaN.
        """
        assert torch.isfinite(self.tensor).all(), "Box tensor contains infinite or NaN!"
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(1)
        self.tensor = torch.stack(
            [x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], dim=1
        )

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: both sides are longer than ``threshold``."""
        sides = self.tensor[:, 2:] - self.tensor[:, :2]
        return (sides > threshold).all(dim=1)

    def __getitem__(self, item: Any) -> Boxes:
        """Select by integer (gives one box), slice, indices or bool mask."""
        if isinstance(item, int):
            return type(self)(self.tensor[item].view(1, -1))
        selected = self.tensor[item]
        assert selected.dim() == 2, f"Indexing on Boxes with {item} failed to return a matrix!"
        return type(self)(selected)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """(N,) bool: the box lies in an image of (height, width), with ``boundary_threshold`` pixels of tolerance."""
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(1)
        margin = boundary_threshold
        return (x0 >= -margin) & (y0 >= -margin) & (x1 < width + margin) & (y1 < height + margin)

    def get_centers(self) -> Tensor:
        """(N, 2) centres, (x, y)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply coordinates in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: Sequence[Boxes]) -> Boxes:
        """All boxes of a list in one; no boxes for an empty list."""
        assert isinstance(boxes_list, (list, tuple)), f"Boxes.cat takes a list of Boxes, got {type(boxes_list)}"
        if len(boxes_list) == 0:
            return cls(torch.empty(0))
        assert all(isinstance(boxes, Boxes) for boxes in boxes_list), "Boxes.cat takes Boxes only"
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    @property
    def device(self) -> device:
        """Device of the tensor."""
        return self.tensor.device

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each box as a tensor of shape (4,)."""
        yield from self.tensor


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Area common to each pair.

    Args:
        boxes1, boxes2: N and M boxes.

    Returns:
        (N, M).
    """
    first, second = boxes1.tensor[:, None], boxes2.tensor
    sides = torch.min(first[..., 2:], second[:, 2:]) - torch.max(first[..., :2], second[:, :2])
    return sides.clamp_(min=0).prod(dim=2)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection over union of N and M boxes: (N, M), 0 where they do not overlap."""
    inter = pairwise_intersection(boxes1, boxes2)
    union = boxes1.area()[:, None] + boxes2.area() - inter
    return torch.where(inter > 0, inter / union, inter.new_zeros(()))


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection over the area of the second box, of N and M boxes: (N, M), 0 where they do not overlap."""
    inter = pairwise_intersection(boxes1, boxes2)
    return torch.where(inter > 0, inter / boxes2.area(), inter.new_zeros(()))


def pairwise_point_box_distance(points: Tensor, boxes: Boxes) -> Tensor:
    """Distances of points to the sides of boxes.

    Args:
        points: (N, 2) of (x, y).
        boxes: M boxes.

    Returns:
        (N, M, 4): left, top, right, bottom; all positive for a point inside.
    """
    x, y = points[:, None].unbind(dim=2)
    x0, y0, x1, y1 = boxes.tensor.unbind(dim=1)
    return torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=2)


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection over union of the i-th box with the i-th box: (N,)."""
    assert len(boxes1) == len(boxes2), (
        f"boxlists should have the same number of entries, got {len(boxes1)}, {len(boxes2)}"
    )
    first, second = boxes1.tensor, boxes2.tensor
    sides = torch.min(first[:, 2:], second[:, 2:]) - torch.max(first[:, :2], second[:, :2])
    inter = sides.clamp(min=0).prod(dim=1)
    return inter / (boxes1.area() + boxes2.area() - inter)
