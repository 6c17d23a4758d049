"""Instance masks as bitmaps, as polygons, and as square predictions inside boxes.

Shapes: N objects, H x W image pixels, S x S pixels of a mask inside a box. Polygons are flat float64 arrays
(x0, y0, x1, y1, ...) in absolute pixels; an object is a list of polygons whose union is its mask.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from torch import Tensor, device

from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.layers.roi_align import ROIAlign
from detectron2.structures.boxes import Boxes

# A box thinner than this (pixels) is enlarged as if it were that wide, to keep the factor finite.
_MIN_BOX_SIDE = 0.1


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Area of a polygon with vertices (x[i], y[i]), by the shoelace formula."""
    return 0.5 * np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def polygons_to_bitmask(polygons: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Rasterise the union of polygons by COCO's rules: bool array (height, width)."""
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    rles = mask_util.frPyObjects([np.asarray(polygon).tolist() for polygon in polygons], height, width)
    return mask_util.decode(mask_util.merge(rles)).astype(bool)


def rasterize_polygons_within_box(polygons: Sequence[np.ndarray], box: np.ndarray, mask_size: int) -> Tensor:
    """Rasterise the part of an object inside a box, which fills the mask.

    Args:
        polygons: the object.
        box: (4,) XYXY.
        mask_size: S.

    Returns:
        (S, S) bool tensor.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    factors = np.array([mask_size / max(width, _MIN_BOX_SIDE), mask_size / max(height, _MIN_BOX_SIDE)])
    origin = np.asarray(box[:2])
    moved = [((np.reshape(polygon, (-1, 2)) - origin) * factors).reshape(-1) for polygon in polygons]
    return torch.from_numpy(polygons_to_bitmask(moved, mask_size, mask_size))


class BitMasks:
    """Masks as a bool tensor of shape (N, H, W).

    Args:
        tensor: (N, H, W) tensor or array; whatever is not 0 belongs to the mask.
    """

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        if isinstance(tensor, Tensor):
            tensor = tensor.to(torch.bool)
        else:
            tensor = torch.as_tensor(tensor, dtype=torch.bool, device=torch.device("cpu"))
        assert tensor.dim() == 3, f"BitMasks have shape (N, H, W), got {tuple(tensor.shape)}"
        self.image_size = tensor.shape[1:]
        self.tensor: Tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> BitMasks:
        """The masks after ``Tensor.to`` with the same arguments."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> device:
        """Device of the tensor."""
        return self.tensor.device

    def __getitem__(self, item: Any) -> BitMasks:
        """Select by integer (gives one mask), slice, indices or bool mask."""
        if isinstance(item, int):
            return BitMasks(self.tensor[item].unsqueeze(0))
        selected = self.tensor[item]
        assert selected.dim() == 3, (
            f"Indexing on BitMasks with {item} returns a tensor with shape {tuple(selected.shape)}!"
        )
        return BitMasks(selected)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each mask as a bool tensor of shape (H, W)."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def nonempty(self) -> Tensor:
        """(N,) bool: the mask has a pixel."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(polygon_masks: PolygonMasks | list[list[np.ndarray]], height: int, width: int) -> BitMasks:
        """Rasterise polygons into an image of the given size."""
        polygons = polygon_masks.polygons if isinstance(polygon_masks, PolygonMasks) else polygon_masks
        masks = [polygons_to_bitmask(object_polygons, height, width) for object_polygons in polygons]
        if not masks:
            return BitMasks(torch.empty(0, height, width, dtype=torch.bool))
        return BitMasks(torch.from_numpy(np.stack(masks)))

    @staticmethod
    def from_roi_masks(roi_masks: ROIMasks, height: int, width: int) -> BitMasks:
        """Always raises TypeError: ``ROIMasks`` do not know their boxes."""
        raise TypeError("ROIMasks hold no boxes: use roi_masks.to_bitmasks(boxes, height, width)")

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Crop each mask by its box and resize to S x S, by RoIAlign.

        Args:
            boxes: (N, 4) XYXY.
            mask_size: S.

        Returns:
            (N, S, S) bool.
        """
        assert len(boxes) == len(self), f"{len(self)} masks need as many boxes, got {len(boxes)}"
        target = self.tensor.device
        indices = torch.arange(len(boxes), device=target, dtype=boxes.dtype)[:, None]
        rois = torch.cat([indices, boxes.to(target)], dim=1).float()
        crop = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        return crop(self.tensor[:, None].float(), rois)[:, 0] >= 0.5

    def get_bounding_boxes(self) -> Boxes:
        """The tight box of each mask; zeros for a mask without pixels."""
        height, width = self.image_size
        boxes = torch.zeros(len(self), 4, dtype=torch.float32, device=self.tensor.device)
        if self.tensor.numel() == 0:
            return Boxes(boxes)
        columns, rows = self.tensor.any(dim=1), self.tensor.any(dim=2)
        for axis, occupied, size in ((0, columns, width), (1, rows, height)):
            first = occupied.to(torch.uint8).argmax(dim=1)
            last = size - occupied.flip(1).to(torch.uint8).argmax(dim=1)
            boxes[:, axis] = torch.where(occupied.any(dim=1), first, 0).float()
            boxes[:, axis + 2] = torch.where(occupied.any(dim=1), last, 0).float()
        return Boxes(boxes)

    @staticmethod
    def cat(bitmasks_list: Sequence[BitMasks]) -> BitMasks:
        """The masks of a list, which are of one image size."""
        assert isinstance(bitmasks_list, (list, tuple)) and len(bitmasks_list) > 0, "BitMasks.cat needs a list"
        assert all(isinstance(masks, BitMasks) for masks in bitmasks_list), "BitMasks.cat takes BitMasks only"
        return type(bitmasks_list[0])(torch.cat([masks.tensor for masks in bitmasks_list], dim=0))


class PolygonMasks:
    """Masks as polygons, on the CPU: ``polygons[i]`` are those of object i.

    Args:
        polygons: list of lists of flat arrays of at least 6 numbers.

    Raises:
        ValueError: not nested that way, or a polygon with an odd or too small number of coordinates.
    """

    def __init__(self, polygons: Sequence[Sequence[Tensor | np.ndarray]]) -> None:
        if not isinstance(polygons, list):
            raise ValueError(
                "Cannot create PolygonMasks: Expect a list of list of polygons per image. "
                f"Got '{type(polygons)}' instead."
            )
        self.polygons: list[list[np.ndarray]] = [_check_polygons(object_polygons) for object_polygons in polygons]

    def to(self, *args: Any, **kwargs: Any) -> PolygonMasks:
        """The object itself: polygons live on the CPU."""
        return self

    @property
    def device(self) -> device:
        """Always the CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """The tight box of each object."""
        boxes = torch.zeros(len(self.polygons), 4, dtype=torch.float32)
        for box, object_polygons in zip(boxes, self.polygons, strict=True):
            # These starting values are the answer for an object without polygons.
            low, high = torch.full((2,), float("inf")), torch.zeros(2)
            for polygon in object_polygons:
                points = torch.from_numpy(polygon).view(-1, 2).to(torch.float32)
                low = torch.minimum(low, points.min(dim=0).values)
                high = torch.maximum(high, points.max(dim=0).values)
            box[:2], box[2:] = low, high
        return Boxes(boxes)

    def nonempty(self) -> Tensor:
        """(N,) bool: the object has a polygon."""
        return torch.tensor([len(object_polygons) > 0 for object_polygons in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: Any) -> PolygonMasks:
        """Select by integer (gives one object), slice, list of integers, or tensor or array of indices or bools."""
        if isinstance(item, (int, np.integer)):
            return PolygonMasks([self.polygons[item]])
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        if isinstance(item, (Tensor, np.ndarray)):
            item = _to_positions(torch.as_tensor(item))
        return PolygonMasks([self.polygons[i] for i in item])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Yield the polygons of each object."""
        return iter(self.polygons)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def __len__(self) -> int:
        return len(self.polygons)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Rasterise each object inside its box.

        Args:
            boxes: (N, 4) XYXY.
            mask_size: S.

        Returns:
            (N, S, S) bool on the device of ``boxes``.
        """
        assert len(boxes) == len(self), f"{len(self)} masks need as many boxes, got {len(boxes)}"
        if len(boxes) == 0:
            return torch.empty(0, mask_size, mask_size, dtype=torch.bool, device=boxes.device)
        masks = [
            rasterize_polygons_within_box(object_polygons, box, mask_size)
            for object_polygons, box in zip(self.polygons, boxes.numpy(force=True), strict=True)
        ]
        return torch.stack(masks).to(boxes.device)

    def area(self) -> Tensor:
        """(N,) sum of the areas of each object's polygons, overlaps counted twice."""
        if len(self.polygons) == 0:
            return torch.tensor([])
        areas = [sum(polygon_area(p[0::2], p[1::2]) for p in object_polygons) for object_polygons in self.polygons]
        return torch.tensor(areas, dtype=torch.float64)

    @staticmethod
    def cat(polymasks_list: Sequence[PolygonMasks]) -> PolygonMasks:
        """The objects of a list."""
        assert isinstance(polymasks_list, (list, tuple)) and len(polymasks_list) > 0, "PolygonMasks.cat needs a list"
        assert all(isinstance(masks, PolygonMasks) for masks in polymasks_list), "PolygonMasks.cat takes PolygonMasks"
        return type(polymasks_list[0])(list(itertools.chain.from_iterable(masks.polygons for masks in polymasks_list)))


def _check_polygons(object_polygons: Any) -> list[np.ndarray]:
    if not isinstance(object_polygons, list):
        raise ValueError(
            f"Cannot create polygons: Expect a list of polygons per instance. Got '{type(object_polygons)}' instead."
        )
    checked = []
    for polygon in object_polygons:
        array = polygon.numpy(force=True) if isinstance(polygon, Tensor) else polygon
        array = np.asarray(array, dtype=np.float64)
        if array.ndim != 1 or array.size % 2 or array.size < 6:
            raise ValueError(f"Cannot create a polygon from {array.size} coordinates.")
        checked.append(array)
    return checked


def _to_positions(item: Tensor) -> list[int]:
    if item.dim() > 1:
        raise TypeError(f"PolygonMasks take indices of one dimension, got shape {tuple(item.shape)}")
    item = item.reshape(-1)
    if item.dtype == torch.bool:
        return item.nonzero()[:, 0].tolist()
    if item.dtype in (torch.int64, torch.int32, torch.uint8):
        return item.tolist()
    raise ValueError(f"Unsupported tensor dtype={item.dtype} for indexing!")


class ROIMasks:
    """Square masks inside boxes that are kept elsewhere, as a tensor of shape (N, S, S).

    Args:
        tensor: (N, S, S) probabilities.

    Raises:
        ValueError: another number of dimensions.
    """

    def __init__(self, tensor: Tensor) -> None:
        if tensor.dim() != 3:
            raise ValueError("ROIMasks must take a masks of 3 dimension.")
        self.tensor = tensor

    def to(self, device: torch.device | str) -> ROIMasks:
        """The masks on another device."""
        return ROIMasks(self.tensor.to(device))

    @property
    def device(self) -> device:
        """Device of the tensor."""
        return self.tensor.device

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item: Any) -> ROIMasks:
        """Select by slice, indices or bool mask."""
        selected = self.tensor[item]
        if selected.dim() != 3:
            raise ValueError(f"Indexing on ROIMasks with {item} returns a tensor with shape {tuple(selected.shape)}!")
        return ROIMasks(selected)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def to_bitmasks(self, boxes: Any, height: int, width: int, threshold: float = 0.5) -> BitMasks:
        """Paste the masks into an image.

        Args:
            boxes: (N, 4) XYXY, a tensor or ``Boxes``.
            height, width: size of the image.
            threshold: probability from which a pixel belongs to the mask.
        """
        return BitMasks(paste_masks_in_image(self.tensor, boxes, (height, width), threshold=threshold))
