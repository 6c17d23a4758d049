"""Anchors: fixed reference boxes laid over every cell of every feature map.

Shapes:
    A: number of anchors per cell
    Hi, Wi: height and width of feature map i
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, move_device_like
from detectron2.structures import Boxes
from detectron2.utils.out_of_scope import refused_class
from detectron2.utils.registry import Registry

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")
ANCHOR_GENERATOR_REGISTRY.__doc__ = """
Modules that create object detection anchors for feature maps, called as ``generator(cfg, input_shape)``.
"""


class BufferList(nn.Module):
    """Like ``nn.ParameterList``, but for tensors that are no parameters; they stay out of the state dict."""

    def __init__(self, buffers: Sequence[torch.Tensor]) -> None:
        super().__init__()
        for index, buffer in enumerate(buffers):
            self.register_buffer(str(index), buffer, persistent=False)

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(buffer for buffer in self._buffers.values() if buffer is not None)


def _create_grid_offsets(
    size: list[int], stride: int, offset: float, target_device_tensor: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """X and Y of every cell of a ``size`` = (Hi, Wi) map, row by row: two (Hi*Wi,) tensors in absolute pixels."""
    height, width = size

    def axis(length: int) -> torch.Tensor:
        start = offset * stride
        return move_device_like(
            torch.arange(start, length * stride, step=stride, dtype=torch.float32), target_device_tensor
        )

    grid_y, grid_x = torch.meshgrid(axis(height), axis(width), indexing="ij")
    return grid_x.reshape(-1), grid_y.reshape(-1)


def _broadcast_params(params: Sequence, num_features: int, name: str) -> Sequence:
    """One list of values for each of ``num_features`` feature maps.

    ``[32, 64]`` and ``[[32, 64]]`` mean the same values on every map; ``[[32], [64]]`` one list per map.
    """
    assert isinstance(params, Sequence), f"{name} in anchor generator has to be a list! Got {params}."
    assert len(params), f"{name} in anchor generator cannot be empty!"
    if not isinstance(params[0], Sequence):
        return [params] * num_features
    if len(params) == 1:
        return list(params) * num_features
    assert len(params) == num_features, (
        f"Got {name} of length {len(params)} in anchor generator, but the number of input features is {num_features}!"
    )
    return params


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(nn.Module):
    """Axis-aligned anchors of every size and aspect ratio (Ren et al., Faster R-CNN, section 3.1.1)."""

    box_dim = 4
    """Number of values that define an anchor box."""

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]] | Sequence[float],
        aspect_ratios: Sequence[Sequence[float]] | Sequence[float],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        """
        Args:
            sizes: square roots of the anchor areas in pixels, for each feature map or for all.
            aspect_ratios: height / width, for each feature map or for all.
            strides: stride of each feature map in pixels.
            offset: place of the first anchor's centre within its cell, in units of the stride, 0 <= offset < 1.
        """
        super().__init__()
        self.strides = strides
        self.num_features = len(strides)
        sizes = _broadcast_params(sizes, self.num_features, "sizes")
        aspect_ratios = _broadcast_params(aspect_ratios, self.num_features, "aspect_ratios")
        self.cell_anchors = self._calculate_anchors(sizes, aspect_ratios)
        self.offset = offset
        assert 0.0 <= offset < 1.0, f"the anchor offset must lie in [0, 1), got {offset}"

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        return {
            "sizes": cfg.MODEL.ANCHOR_GENERATOR.SIZES,
            "aspect_ratios": cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": cfg.MODEL.ANCHOR_GENERATOR.OFFSET,
        }

    def _calculate_anchors(self, sizes: Sequence, aspect_ratios: Sequence) -> BufferList:
        return BufferList([self.generate_cell_anchors(s, a).float() for s, a in zip(sizes, aspect_ratios)])

    @property
    def num_cell_anchors(self) -> list[int]:
        """The same as ``num_anchors``."""
        return self.num_anchors

    @property
    def num_anchors(self) -> list[int]:
        """Number of anchors per cell, for each feature map: ``len(sizes) * len(aspect_ratios)``."""
        return [len(cell_anchors) for cell_anchors in self.cell_anchors]

    def _grid_anchors(self, grid_sizes: list[list[int]]) -> list[torch.Tensor]:
        """(Hi*Wi*A, 4) anchors of each map of size (Hi, Wi): cells row by row, the A anchors of a cell together."""
        anchors = []
        for size, stride, cell_anchors in zip(grid_sizes, self.strides, self.cell_anchors):
            shift_x, shift_y = _create_grid_offsets(size, stride, self.offset, cell_anchors)
            shifts = torch.stack((shift_x, shift_y, shift_x, shift_y), dim=1)
            anchors.append((shifts[:, None] + cell_anchors[None]).reshape(-1, 4))
        return anchors

    def generate_cell_anchors(
        self, sizes: Sequence[float] = (32, 64, 128, 256, 512), aspect_ratios: Sequence[float] = (0.5, 1, 2)
    ) -> torch.Tensor:
        """(A, 4) XYXY anchors around the origin, sizes in the outer and aspect ratios in the inner order."""
        anchors = []
        for size in sizes:
            for aspect_ratio in aspect_ratios:
                width = math.sqrt(size**2 / aspect_ratio)
                height = aspect_ratio * width
                anchors.append([-width / 2.0, -height / 2.0, width / 2.0, height / 2.0])
        return torch.tensor(anchors)

    def forward(self, features: list[torch.Tensor]) -> list[Boxes]:
        """
        Args:
            features: one (N, C, Hi, Wi) map for each stride; only the sizes are read.

        Returns:
            For each map its (Hi*Wi*A, 4) anchors in absolute pixels, common to all images of the batch.
        """
        return [Boxes(anchors) for anchors in self._grid_anchors([list(feature.shape[-2:]) for feature in features])]


RotatedAnchorGenerator = refused_class(__name__, "RotatedAnchorGenerator", "rotated boxes")
ANCHOR_GENERATOR_REGISTRY.register(RotatedAnchorGenerator)


def build_anchor_generator(cfg, input_shape: list[ShapeSpec]) -> nn.Module:
    """The anchor generator named by ``cfg.MODEL.ANCHOR_GENERATOR.NAME``."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
