"""RoIAlign as weighted sums of rows of a table, for CPUs.

A pixel's channels lie side by side in the table, so a sum runs over whole vectors, where the plain operator picks
single values. The bilinear weights of a bin's samples are added up per pixel first: g samples in a direction touch at
most g + 1 pixels. The gradient is the same with the roles exchanged: a pixel sums the rows of the bins that read it.

Shapes: R boxes, N images, C channels, H x W pixels, P x Q bins, g samples per bin in one direction, T taps: the pixels
that they touch in that direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Boxes are grouped by their number of samples per bin, rounded up to one of these.
GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Pixel indices at once; bounds the memory of a group.
MAX_INDICES = 1 << 22
# Entries of all groups, kept until the backward pass at 20 bytes each; sorting them takes the same again.
MAX_ENTRIES_FOR_GRADIENT = 1 << 23


def is_worthwhile(
    features: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int
) -> bool:
    """Whether the operator below applies and gains: float32 on a CPU, samples as dense as pixels."""
    applies = (
        features.device.type == "cpu"
        and sampling_ratio <= 0
        and features.dtype == rois.dtype == torch.float32
        and features.numel() > 0
        and rois.shape[0] > 0
        and features.shape[1] >= 16
        and not torch.jit.is_tracing()
        and not torch.jit.is_scripting()
        and not torch.compiler.is_compiling()
    )
    if not applies:
        return False
    sides = (rois[:, 3:5] - rois[:, 1:3]).abs() * spatial_scale
    # NaN and boxes of a size that no picture has fail this comparison.
    if not bool(sides.max() <= (GROUPS[-1] - 1) * min(output_size)):
        return False
    wants_gradient = torch.is_grad_enabled() and features.requires_grad
    return not wants_gradient or _num_entries(sides, output_size) <= MAX_ENTRIES_FOR_GRADIENT


def _num_entries(sides: Tensor, output_size: tuple[int, int]) -> int:
    """Pairs of a bin and a pixel that it reads, of all boxes with (R, 2) sides in x and y, in pixels of the map."""
    groups = torch.tensor(GROUPS, device=sides.device)
    taps = groups[torch.bucketize(_samples_per_bin(sides, output_size), groups)] + 1
    return int(taps.prod(dim=1).sum()) * output_size[0] * output_size[1]


def _samples_per_bin(extent: Tensor, output_size: tuple[int, int]) -> Tensor:
    """(R, 2) extents in x and y to (R, 2) int64 samples in y and x."""
    return (extent.flip(1) / extent.new_tensor(output_size)).ceil().to(torch.int64).clamp(min=0)


def axis_taps(
    start: Tensor, length: Tensor, bins: int, samples: Tensor, most_samples: int, size: int
) -> tuple[Tensor, Tensor]:
    """Pixels and weights along one direction.

    Args:
        start, length: (R,) box in pixels of the feature map, where pixel i lies at i.
        bins: P.
        samples: (R,) samples per bin of each box, at most `most_samples`.
        size: number of pixels of the map.

    Returns:
        (R, P, T) int64 pixel indices inside the map, and (R, P, T) weights; those of a bin sum to 1 unless samples lie
        more than a pixel outside the map.
    """
    bin_length = (length / bins).view(-1, 1, 1)
    counts = samples.view(-1, 1, 1).to(length.dtype)
    share = 1 / counts.clamp(min=1)
    options: Any = {"dtype": length.dtype, "device": length.device}
    bin_index = torch.arange(bins, **options).view(1, -1, 1)
    sample_index = torch.arange(most_samples, **options).view(1, 1, -1)
    # torchvision's order of operations: a sample on the limit of what counts, -1 or `size`, has to round the same way.
    at = (start.view(-1, 1, 1) + bin_index * bin_length) + (sample_index + 0.5) * bin_length / counts.clamp(min=1)
    # A box without extent has no samples: its weights are all 0.
    counted = (sample_index < counts) & (at >= -1) & (at <= size)
    at = at.clamp(min=0, max=size - 1)
    first = at[..., :1].floor()
    pixels = first + torch.arange(most_samples + 1, **options)
    closeness = (1 - (at.unsqueeze(-1) - pixels.unsqueeze(-2)).abs()).clamp_(min=0)
    weights = (closeness * (counted * share).unsqueeze(-1)).sum(dim=2)
    return pixels.clamp_(max=size - 1).to(torch.int64), weights


def gathered_roi_align(
    features: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float, aligned: bool
) -> Tensor:
    """`torchvision.ops.roi_align` with sampling_ratio 0, up to rounding; differentiable in the features.

    Args:
        features: (N, C, H, W) floating point.
        rois: (R, 5), each (index of the image, x0, y0, x1, y1).
        output_size: (P, Q).

    Returns:
        (R, C, P, Q).
    """
    return _GatheredRoIAlign.apply(features, rois, output_size, spatial_scale, aligned)


class _GatheredRoIAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, output_size: tuple[int, int], scale: float, aligned: bool):
        # Of a single image the rows are else a view with gaps, which embedding_bag reads ten times as slowly.
        table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).contiguous()
        pooled = features.new_empty((rois.shape[0], *output_size, features.shape[1]))
        bins = output_size[0] * output_size[1]
        by_bin = torch.arange(rois.shape[0] * bins, device=rois.device).view(-1, bins)
        entries = []
        for members, rows, weights in _rows_of_bins(rois, features.shape, output_size, scale, aligned):
            sums = F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
            pooled.index_copy_(0, members, sums.view(-1, *pooled.shape[1:]))
            if ctx.needs_input_grad[0]:
                bin_of_entry = by_bin[members].view(-1, 1).expand_as(rows)
                entries.append((rows.flatten(), bin_of_entry.flatten(), weights.flatten()))
        if entries:
            ctx.save_for_backward(*(torch.cat(part) for part in zip(*entries)))
        ctx.features_shape, ctx.channels_last = features.shape, not features.is_contiguous()
        return pooled.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None
        rows, bins, weights = ctx.saved_tensors
        num, channels, height, width = ctx.features_shape
        grad_table = grad.permute(0, 2, 3, 1).reshape(-1, channels)
        counts = torch.bincount(rows, minlength=num * height * width)
        order = torch.argsort(rows)
        sums = F.embedding_bag(
            bins[order], grad_table, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights[order]
        )
        grad_features = sums.view(num, height, width, channels).permute(0, 3, 1, 2)
        return grad_features if ctx.channels_last else grad_features.contiguous(), None, None, None, None


def _rows_of_bins(
    rois: Tensor, shape: torch.Size, output_size: tuple[int, int], scale: float, aligned: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Groups of boxes: their indices (M,), and (M * P * Q, taps) rows of the table with the weights of their sums."""
    height, width = shape[2:]
    low = rois[:, 1:3] * scale - (0.5 if aligned else 0.0)
    extent = rois[:, 3:5] * scale - (0.5 if aligned else 0.0) - low
    if not aligned:
        extent = extent.clamp(min=1.0)
    samples = _samples_per_bin(extent, output_size)
    first_row = rois[:, 0].to(torch.int64) * (height * width)
    for most_y, most_x, members in _groups(samples):
        taps = (most_y + 1) * (most_x + 1)
        for part in members.split(max(1, MAX_INDICES // (output_size[0] * output_size[1] * taps))):
            y, weight_y = axis_taps(low[part, 1], extent[part, 1], output_size[0], samples[part, 0], most_y, height)
            x, weight_x = axis_taps(low[part, 0], extent[part, 0], output_size[1], samples[part, 1], most_x, width)
            rows = (first_row[part].view(-1, 1, 1) + y * width)[:, :, None, :, None] + x[:, None, :, None, :]
            weights = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
            yield part, rows.view(-1, taps), weights.view(-1, taps)


def _groups(samples: Tensor) -> list[tuple[int, int, Tensor]]:
    """(R, 2) samples per bin in y and x to (most in y, most in x, members): boxes of like sizes together."""
    bucket = torch.bucketize(samples, torch.tensor(GROUPS, device=samples.device))
    keys = bucket[:, 0] * len(GROUPS) + bucket[:, 1]
    order = torch.argsort(keys, stable=True)
    present, counts = torch.unique_consecutive(keys[order], return_counts=True)
    return [
        (GROUPS[key // len(GROUPS)], GROUPS[key % len(GROUPS)], members)
        for key, members in zip(present.tolist(), order.split(counts.tolist()))
    ]
