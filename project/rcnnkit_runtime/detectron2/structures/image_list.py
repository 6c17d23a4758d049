"""Images of different sizes in one padded batch.

Shapes: N images, ... leading dimensions (channels), H x W the padded size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, device
from torch.nn import functional as F


class ImageList:
    """A batch, padded at the right and at the bottom, and the sizes before padding.

    Args:
        tensor: (N, H, W) or (N, C, H, W).
        image_sizes: (height, width) of each image.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """The image at ``idx`` without its padding: (H, W) or (C, H, W)."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> ImageList:
        """The batch after ``Tensor.to`` with the same arguments."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> device:
        """Device of the batch."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: Mapping[str, int] | None = None,
    ) -> ImageList:
        """Pad images to the largest height and width among them.

        Args:
            tensors: images, (H_i, W_i) or (C, H_i, W_i), alike but for the last two sizes.
            size_divisibility: if above 1, H and W are rounded up to multiples of it.
            pad_value: value of the padding.
            padding_constraints: "size_divisibility" replaces the argument of that name; "square_size", if above 0,
                asks for H = W = that number (before rounding).
        """
        assert isinstance(tensors, (list, tuple)) and len(tensors) > 0, "ImageList needs a list of at least one image"
        for tensor in tensors:
            assert isinstance(tensor, Tensor), f"ImageList takes tensors, got {type(tensor)}"
            assert tensor.shape[:-2] == tensors[0].shape[:-2], (
                f"images differ in more than height and width: {tuple(tensor.shape)}, {tuple(tensors[0].shape)}"
            )
        image_sizes = [(tensor.shape[-2], tensor.shape[-1]) for tensor in tensors]
        height, width = _padded_size(image_sizes, size_divisibility, padding_constraints or {})
        if len(tensors) == 1:
            image = tensors[0]
            padding = [0, width - image.shape[-1], 0, height - image.shape[-2]]
            batch = F.pad(image, padding, value=pad_value).unsqueeze(0)
        else:
            shape = (len(tensors), *tensors[0].shape[:-2], height, width)
            batch = tensors[0].new_full(shape, pad_value)
            for slot, image in zip(batch, tensors, strict=True):
                slot[..., : image.shape[-2], : image.shape[-1]].copy_(image)
        return ImageList(batch.contiguous(), image_sizes)


def _padded_size(
    image_sizes: Sequence[tuple[int, int]], size_divisibility: int, constraints: Mapping[str, int]
) -> tuple[int, int]:
    height = max(size[0] for size in image_sizes)
    width = max(size[1] for size in image_sizes)
    square_size = constraints.get("square_size", 0)
    if square_size > 0:
        if square_size < max(height, width):
            raise ValueError(f"square_size {square_size} is smaller than an image of the batch ({height} x {width})")
        height = width = square_size
    divisor = constraints.get("size_divisibility", size_divisibility)
    if divisor > 1:
        height, width = (-(-size // divisor) * divisor for size in (height, width))
    return height, width
