"""Pooling of box features from one or several feature maps.

Shape letters: M boxes of the whole batch, N images, C channels, L feature levels, P pooled side.
Boxes are absolute pixels XYXY; a "pooler format" row is (index of image, x0, y0, x1, y1).
"""

import math

import torch
from torch import nn
from torchvision.ops import RoIPool

from detectron2.layers import ROIAlign, cat, shapes_to_tensor
from detectron2.structures import Boxes

__all__ = ["ROIPooler"]


def assign_boxes_to_levels(
    box_lists: list[Boxes], min_level: int, max_level: int, canonical_box_size: int, canonical_level: int
) -> torch.Tensor:
    """The pyramid level of each box by its size: equation 1 of the FPN paper (arXiv 1612.03144).

    Returns:
        int64 tensor of shape (M,): the level minus `min_level`, so that 0 is the finest map.
    """
    sizes = torch.sqrt(cat([boxes.area() for boxes in box_lists]))
    # the tiny summand keeps the logarithm of an empty box finite
    levels = torch.floor(canonical_level + torch.log2(sizes / canonical_box_size + 1e-8))
    return torch.clamp(levels, min=min_level, max=max_level).to(torch.int64) - min_level


def _convert_boxes_to_pooler_format(boxes: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Put the index of its image before each of the (M, 4) boxes; `sizes` holds the number of boxes of each image."""
    image_index = torch.arange(len(sizes), dtype=boxes.dtype, device=boxes.device)
    image_index = image_index.repeat_interleave(sizes.to(boxes.device), output_size=boxes.shape[0])
    return torch.cat([image_index[:, None], boxes], dim=1)


def convert_boxes_to_pooler_format(box_lists: list[Boxes]) -> torch.Tensor:
    """Stack the boxes of N images as the rows that torchvision.ops.roi_align reads.

    Returns:
        tensor of shape (M, 5): (index of image, x0, y0, x1, y1).
    """
    boxes = cat([b.tensor for b in box_lists], dim=0)
    sizes = shapes_to_tensor([len(b) for b in box_lists], device=boxes.device)
    return _convert_boxes_to_pooler_format(boxes, sizes)


def _build_level_pooler(pooler_type: str, output_size: tuple[int, int], scale: float, sampling_ratio: int) -> nn.Module:
    if pooler_type == "ROIAlign":
        return ROIAlign(output_size, spatial_scale=scale, sampling_ratio=sampling_ratio, aligned=False)
    if pooler_type == "ROIAlignV2":
        return ROIAlign(output_size, spatial_scale=scale, sampling_ratio=sampling_ratio, aligned=True)
    if pooler_type == "ROIPool":
        return RoIPool(output_size, spatial_scale=scale)
    if pooler_type == "ROIAlignRotated":
        raise NotImplementedError(
            "POOLER_TYPE 'ROIAlignRotated': rotated boxes are outside the built-in engine's scope"
        )
    raise ValueError(f"Unknown POOLER_TYPE '{pooler_type}'; known: ROIAlign, ROIAlignV2, ROIPool")


def _stride_to_level(scale: float) -> int:
    level = -math.log2(scale)
    if not math.isclose(level, round(level)):
        raise ValueError(f"ROIPooler: scale {scale} is not a power of two, so it has no pyramid level")
    return round(level)


class ROIPooler(nn.Module):
    """Pool a feature of fixed size for each box, from the pyramid level that suits the size of the box."""

    def __init__(
        self,
        output_size: int | tuple[int, int] | list[int],
        scales: list[float] | tuple[float, ...],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ):
        """
        Args:
            output_size: side, or height and width, of the pooled feature.
            scales: 1 / stride of each feature map, the finest first; strides double from one to the next.
            sampling_ratio: ROIAlign's samples per bin and direction; 0 fits them to the size of the box.
            pooler_type: "ROIAlign" (half a pixel off), "ROIAlignV2" (aligned) or "ROIPool".
            canonical_box_size: side in pixels of the box that goes to `canonical_level`.
            canonical_level: log2 of the stride of that level.
        """
        super().__init__()
        size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if len(size) != 2 or not all(isinstance(side, int) for side in size):
            raise ValueError(f"ROIPooler: output_size must be one or two integers, got {output_size!r}")
        self.output_size = size
        self.level_poolers = nn.ModuleList(_build_level_pooler(pooler_type, size, s, sampling_ratio) for s in scales)

        self.min_level = _stride_to_level(scales[0])
        self.max_level = _stride_to_level(scales[-1])
        if self.max_level - self.min_level + 1 != len(scales):
            raise ValueError(f"ROIPooler: strides must double from map to map, got scales {list(scales)}")
        if self.min_level < 0 or canonical_box_size <= 0:
            raise ValueError("ROIPooler: scales must be at most 1 and canonical_box_size positive")
        self.canonical_level = canonical_level
        self.canonical_box_size = canonical_box_size

    def forward(self, x: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """
        Args:
            x: L feature maps of shape (N, C, H_l, W_l), in the order of `scales`.
            box_lists: the boxes of each of the N images.

        Returns:
            tensor of shape (M, C, P, P); the boxes keep their order.
        """
        if len(x) != len(self.level_poolers):
            raise ValueError(f"ROIPooler: {len(self.level_poolers)} scales, but {len(x)} feature maps")
        if len(box_lists) != x[0].shape[0]:
            raise ValueError(f"ROIPooler: feature maps of {x[0].shape[0]} images, but boxes of {len(box_lists)}")
        rois = convert_boxes_to_pooler_format(box_lists)
        if len(self.level_poolers) == 1:
            return self.level_poolers[0](x[0], rois)

        levels = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        return self._pool_by_level(x, rois, levels)

    def _pool_by_level(self, x: list[torch.Tensor], rois: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Sort the boxes by level: each level is then one slice, pooled by one call, after one transfer of L counts."""
        if torch.jit.is_tracing():
            return self._pool_traced(x, rois, levels)
        order = torch.argsort(levels, stable=True)
        counts = torch.bincount(levels, minlength=len(x)).tolist()
        level_rois = rois[order].split(counts)
        if not torch.is_grad_enabled():
            pooled = x[0].new_empty((rois.shape[0], x[0].shape[1], *self.output_size))
            for pooler, feature, level, rows in zip(self.level_poolers, x, level_rois, order.split(counts)):
                if len(rows):
                    pooled.index_copy_(0, rows, pooler(feature, level).to(pooled.dtype))
            return pooled
        # with gradients, one gather restores the order: its backward is one copy, not one of the whole per level.
        # A level without boxes is pooled as well: it costs nothing and keeps every feature map in the graph.
        by_level = [pooler(feature, level) for pooler, feature, level in zip(self.level_poolers, x, level_rois)]
        return torch.cat(by_level).index_select(0, torch.argsort(order))

    def _pool_traced(self, x: list[torch.Tensor], rois: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """As above, in operations that hold for any number of boxes on a level: a trace keeps Python's numbers."""
        pooled = x[0].new_zeros((rois.shape[0], x[0].shape[1], *self.output_size))
        for level, (pooler, feature) in enumerate(zip(self.level_poolers, x)):
            (rows,) = (levels == level).nonzero(as_tuple=True)
            pooled = pooled.index_put((rows,), pooler(feature, rois[rows]).to(pooled.dtype))
        return pooled
