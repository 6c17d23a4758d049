"""RoIAlign as weighted sums of rows of a table, for inference on a CPU.

A pixel's channels lie side by side in the table, so a sum runs over whole vectors, where the plain operator picks
single values. The bilinear weights of a bin's samples are added up per pixel first: g samples in a direction touch at
most g + 1 pixels.

Shapes: R boxes, N images, C channels, H x W pixels, P x Q bins, g samples per bin in one direction, T taps: the pixels
that they touch in that direction.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Boxes are grouped by their number of samples per bin, rounded up to one of these.
GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Pixel indices at once; bounds the memory of a group.
MAX_INDICES = 1 << 22


def is_worthwhile(
    features: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int
) -> bool:
    """Whether the operator below applies and gains: float32 on a CPU, no gradients, samples as dense as pixels."""
    applies = (
        features.device.type == "cpu"
        and not torch.is_grad_enabled()
        and sampling_ratio <= 0
        and features.dtype == torch.float32
        and features.numel() > 0
        and rois.shape[0] > 0
        and features.shape[1] >= 16
        and not torch.jit.is_tracing()
        and not torch.jit.is_scripting()
        and not torch.compiler.is_compiling()
    )
    # NaN and boxes of a size that no picture has fail this comparison.
    return applies and bool(
        (rois[:, 3:5] - rois[:, 1:3]).abs().max() * spatial_scale <= (GROUPS[-1] - 1) * min(output_size)
    )


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
    bin_index = torch.arange(bins, dtype=length.dtype).view(1, -1, 1)
    sample_index = torch.arange(most_samples, dtype=length.dtype).view(1, 1, -1)
    at = start.view(-1, 1, 1) + bin_index * bin_length + (sample_index + 0.5) * bin_length * share
    # A box without extent has no samples: its weights are all 0.
    counted = (sample_index < counts) & (at >= -1) & (at <= size)
    at = at.clamp(min=0, max=size - 1)
    first = at[..., :1].floor()
    pixels = first + torch.arange(most_samples + 1, dtype=length.dtype)
    closeness = (1 - (at.unsqueeze(-1) - pixels.unsqueeze(-2)).abs()).clamp_(min=0)
    weights = (closeness * (counted * share).unsqueeze(-1)).sum(dim=2)
    return pixels.clamp_(max=size - 1).to(torch.int64), weights


def gathered_roi_align(
    features: Tensor, rois: Tensor, output_size: tuple[int, int], spatial_scale: float, aligned: bool
) -> Tensor:
    """`torchvision.ops.roi_align` with sampling_ratio 0, up to rounding.

    Args:
        features: (N, C, H, W) float32.
        rois: (R, 5), each (index of the image, x0, y0, x1, y1).
        output_size: (P, Q).

    Returns:
        (R, C, P, Q) in channels-last memory format.
    """
    num_channels, height, width = features.shape[1:]
    table = features.permute(0, 2, 3, 1).reshape(-1, num_channels)
    low = rois[:, 1:3] * spatial_scale - (0.5 if aligned else 0.0)
    extent = rois[:, 3:5] * spatial_scale - (0.5 if aligned else 0.0) - low
    if not aligned:
        extent = extent.clamp(min=1.0)
    bins_yx = rois.new_tensor(output_size)
    samples = (extent.flip(1) / bins_yx).ceil().to(torch.int64).clamp(min=0)
    first_row = rois[:, 0].to(torch.int64) * (height * width)
    pooled = features.new_empty((rois.shape[0], *output_size, num_channels))
    for most_y, most_x, members in _groups(samples):
        bins = output_size[0] * output_size[1]
        at_once = max(1, MAX_INDICES // (bins * (most_y + 1) * (most_x + 1)))
        for part in members.split(at_once):
            y, weight_y = axis_taps(low[part, 1], extent[part, 1], output_size[0], samples[part, 0], most_y, height)
            x, weight_x = axis_taps(low[part, 0], extent[part, 0], output_size[1], samples[part, 1], most_x, width)
            rows = (first_row[part].view(-1, 1, 1) + y * width)[:, :, None, :, None] + x[:, None, :, None, :]
            weights = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
            sums = F.embedding_bag(
                rows.view(-1, (most_y + 1) * (most_x + 1)),
                table,
                mode="sum",
                per_sample_weights=weights.view(-1, (most_y + 1) * (most_x + 1)),
            )
            pooled.index_copy_(0, part, sums.view(-1, *output_size, num_channels))
    return pooled.permute(0, 3, 1, 2)


def _groups(samples: Tensor) -> list[tuple[int, int, Tensor]]:
    """(R, 2) samples per bin in y and x to (most in y, most in x, members): boxes of like sizes together."""
    bucket = torch.bucketize(samples, torch.tensor(GROUPS))
    keys = bucket[:, 0] * len(GROUPS) + bucket[:, 1]
    order = torch.argsort(keys, stable=True)
    present, counts = torch.unique_consecutive(keys[order], return_counts=True)
    return [
        (GROUPS[key // len(GROUPS)], GROUPS[key % len(GROUPS)], members)
        for key, members in zip(present.tolist(), order.split(counts.tolist()))
    ]
