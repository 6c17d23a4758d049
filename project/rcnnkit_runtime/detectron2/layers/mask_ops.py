"""Paste the square masks that a mask head predicts into whole images.

Shapes: N masks, S x S predicted pixels, H x W image pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.layers.wrappers import shapes_to_tensor

__all__ = ["paste_masks_in_image"]

BYTES_PER_FLOAT = 4
# Intermediate values of one chunk on an accelerator stay below this.
GPU_MEM_LIMIT = 1024**3


def _grid_coordinates(start: int, stop: int, low: Tensor, high: Tensor) -> Tensor:
    """Centres of the pixels start..stop-1 in the frame where the box from low to high, (N, 1), spans -1..1: (N, P)."""
    centres = torch.arange(start, stop, device=low.device, dtype=torch.float32) + 0.5
    return (centres - low) / (high - low) * 2 - 1


def _do_paste_mask(
    masks: Tensor, boxes: Tensor, img_h: int, img_w: int, skip_empty: bool = True
) -> tuple[Tensor, tuple[slice, ...]]:
    """Sample masks bilinearly at the pixels of the image.

    Args:
        masks: (N, 1, S, S) float.
        boxes: (N, 4) absolute XYXY.
        img_h, img_w: size of the image.
        skip_empty: sample only the rectangle that holds all boxes, not the whole image.

    Returns:
        (N, h, w) float values, and the slices of the image's rows and columns that they belong to; no slices and
        h, w = H, W without ``skip_empty``.
    """
    x_start, y_start, x_stop, y_stop = 0, 0, img_w, img_h
    if skip_empty and not torch.jit.is_scripting():
        # One pixel more on each side: bilinear sampling reaches half a mask pixel beyond the box.
        low = boxes.min(dim=0).values.floor()[:2] - 1
        high = boxes.max(dim=0).values.ceil()[2:] + 1
        x_start, y_start = (max(int(v), 0) for v in low.tolist())
        x_stop, y_stop = (max(min(int(v), size), 0) for v, size in zip(high.tolist(), (img_w, img_h), strict=True))
        x_start, y_start = min(x_start, x_stop), min(y_start, y_stop)
    x0, y0, x1, y1 = boxes.split(1, dim=1)
    grid_x = _grid_coordinates(x_start, x_stop, x0, x1)
    grid_y = _grid_coordinates(y_start, y_stop, y0, y1)
    num, height, width = len(masks), grid_y.shape[1], grid_x.shape[1]
    grid = torch.stack(
        [grid_x[:, None, :].expand(num, height, width), grid_y[:, :, None].expand(num, height, width)], dim=3
    )
    if not torch.is_floating_point(masks):
        masks = masks.float()
    sampled = F.grid_sample(masks, grid.to(masks.dtype), align_corners=False)[:, 0]
    if skip_empty and not torch.jit.is_scripting():
        return sampled, (slice(y_start, y_stop), slice(x_start, x_stop))
    return sampled, ()


def _binarize(values: Tensor, threshold: float) -> Tensor:
    return values >= threshold if threshold >= 0 else (values * 255).to(torch.uint8)


@torch.jit.script_if_tracing
def _paste_into_traced_size(masks: Tensor, boxes: Tensor, size: Tensor, threshold: float) -> Tensor:
    """Paste into an image whose (height, width) is a tensor, so that a trace holds for other images and numbers."""
    height, width = int(size[0]), int(size[1])
    if masks.shape[0] == 0:
        return torch.zeros([0, height, width], dtype=torch.uint8, device=masks.device)
    x0, y0, x1, y1 = boxes.split(1, dim=1)
    grid_x = _grid_coordinates(0, width, x0, x1)[:, None, :].expand(-1, height, -1)
    grid_y = _grid_coordinates(0, height, y0, y1)[:, :, None].expand(-1, -1, width)
    grid = torch.stack([grid_x, grid_y], dim=3).to(masks.dtype)
    return _binarize(F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0], threshold)


def paste_masks_in_image(masks: Tensor, boxes: Any, image_shape: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Paste masks, each of which fills its box, into images of zeros.

    Args:
        masks: (N, S, S) probabilities in 0..1.
        boxes: (N, 4) absolute XYXY, a tensor or ``Boxes``.
        image_shape: (H, W).
        threshold: probability from which a pixel belongs to the mask; negative gives soft masks.

    Returns:
        (N, H, W), bool, or uint8 with 255 times the probability if ``threshold`` is negative.
    """
    assert masks.shape[-1] == masks.shape[-2], "Only square mask predictions are supported"
    if torch.jit.is_tracing():
        boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
        return _paste_into_traced_size(masks.float(), boxes, shapes_to_tensor(image_shape), threshold)
    num = len(masks)
    if num == 0:
        return masks.new_empty((0,) + tuple(image_shape), dtype=torch.uint8)
    if not isinstance(boxes, Tensor):
        boxes = boxes.tensor
    assert len(boxes) == num, f"{num} masks need as many boxes, got shape {tuple(boxes.shape)}"
    img_h, img_w = (int(size) for size in image_shape)
    on_cpu = boxes.device.type == "cpu"
    # A CPU gains by touching each box's pixels only, an accelerator by few large calls.
    chunk = 1 if on_cpu else max(1, GPU_MEM_LIMIT // (img_h * img_w * BYTES_PER_FLOAT))
    dtype = torch.bool if threshold >= 0 else torch.uint8
    pasted = torch.zeros(num, img_h, img_w, device=boxes.device, dtype=dtype)
    for start in range(0, num, chunk):
        part = slice(start, start + chunk)
        values, region = _do_paste_mask(masks[part, None], boxes[part], img_h, img_w, skip_empty=on_cpu)
        if values.numel():
            pasted[(part, *region)] = _binarize(values, threshold)
    return pasted
