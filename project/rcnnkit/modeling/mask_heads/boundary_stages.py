"""The modules of a mask head that refines its masks from coarse to fine.

Shape letters: N images, B boxes of the whole batch, C channels, D of the detail map, K classes, S side of a mask.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from detectron2.layers import Conv2d, ROIAlign, get_norm
from rcnnkit.modeling.precision import at_least_float32


def convolution(own: int, channels: int, norm: str) -> Conv2d:
    """3 × 3 convolution with ReLU, (B, own, S, S) → (B, channels, S, S); `norm` as `get_norm` takes it."""
    layer = Conv2d(
        own, channels, 3, padding=1, bias=not norm, norm=get_norm(norm, channels) if norm else None, activation=F.relu
    )
    c2_msra_fill(layer)
    return layer


def enlarged(x: torch.Tensor) -> torch.Tensor:
    """(B, C, S, S) → (B, C, 2 S, 2 S), bilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def pool_cells(x: torch.Tensor, rois: torch.Tensor, pooler: ROIAlign) -> torch.Tensor:
    """RoIAlign with as many samples for a cell as it covers pixels of the map; (B, C, S, S), channels last in memory.

    On a CPU, where no cell covers more than one pixel, so that its value is that of the map at its centre, sampling
    these points takes a quarter of the time of RoIAlign and its gradient.

    Args:
        x: (N, C, H, W).
        rois: (B, 5): number of the image, box in pixels; the images in order, the boxes in their image.
        pooler: aligned.
    """
    x = at_least_float32(x)
    size: Any = pooler.output_size
    side, scale = size[0], pooler.spatial_scale
    sizes = (rois[:, 3:] - rois[:, 1:3]) * scale
    if torch.jit.is_tracing() or x.device.type != "cpu" or not len(rois) or bool((sizes > side).any()):
        return pooler(x, rois).contiguous(memory_format=torch.channels_last)
    height, width = x.shape[-2:]
    middles = (torch.arange(side, device=rois.device, dtype=rois.dtype) + 0.5) / side
    # grid_sample's frame: the map reaches from -1 to 1
    columns = (rois[:, 1:2] * scale + sizes[:, :1] * middles) * (2 / width) - 1
    rows = (rois[:, 2:3] * scale + sizes[:, 1:] * middles) * (2 / height) - 1
    points = torch.stack([columns[:, None].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], dim=-1)
    pieces = []
    for number, own in enumerate(points.split(torch.bincount(rois[:, 0].long(), minlength=len(x)).tolist())):
        if len(own):
            piece = F.grid_sample(
                x[number : number + 1], own.flatten(0, 1)[None].to(x.dtype), padding_mode="border", align_corners=False
            )
            pieces.append(piece.reshape(-1, len(own), side, side).permute(1, 2, 3, 0))
    return torch.cat(pieces).permute(0, 3, 1, 2)


class DetailBranch(nn.Module):
    """Convolutions over the finest map of the whole image, and its enlargement to a smaller stride."""

    def __init__(self, own: int, channels: int, doublings: int, norm: str):
        """
        Args:
            own: channels of the map.
            channels: C.
            doublings: of height and width.
            norm: of the convolutions but the last.
        """
        super().__init__()
        layers: list[nn.Module] = [convolution(own, own, norm)]
        for _ in range(doublings):
            layers += [convolution(own, 4 * channels, norm), nn.PixelShuffle(2)]
            own = channels
        layers.append(convolution(own, channels, ""))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C', H, W) → (N, C, 2^doublings H, 2^doublings W)."""
        return self.layers(x)


class OwnClassLogits(nn.Module):
    """A 1 × 1 convolution to one mask for each class, of which only that of the box's class is computed."""

    def __init__(self, channels: int, num_classes: int):
        """
        Args:
            channels: C.
            num_classes: K; 1: a mask for whatever class.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, channels))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: (B, C, S, S).
            classes: (B,) int64.

        Returns:
            (B, S, S), at least float32.
        """
        rows = classes if len(self.bias) > 1 else torch.zeros_like(classes)
        # channels last is how x lies in memory: no copy
        logits = torch.baddbmm(
            self.bias[rows][:, None, None], x.permute(0, 2, 3, 1).flatten(1, 2), self.weight[rows][:, :, None]
        )
        return at_least_float32(logits[..., 0].unflatten(1, x.shape[2:]))


class RefiningStage(nn.Module):
    """Doubles the side of a mask: what the stage before knows, the details of the place and the mask so far are fused.

    The fusing 1 × 1 convolution is linear, as are pooling and enlarging, so that it is computed for each of the three
    where they are smallest: the features before they are enlarged, the details before they are pooled.
    """

    def __init__(self, own: int, detail: int, channels: int, *, stride: float, side: int, num_classes: int, norm: str):
        """
        Args:
            own: channels of the stage before.
            detail: channels of the detail map.
            channels: C.
            stride: of the detail map, pixels.
            side: S.
            num_classes: K.
            norm: of the convolution.
        """
        super().__init__()
        self.reduce = nn.Conv2d(own, channels, 1)
        self.detail = nn.Conv2d(detail, channels, 1, bias=False)
        self.mask = nn.Parameter(torch.zeros(channels))
        for layer in (self.reduce, self.detail):
            c2_msra_fill(layer)
        self.pooler = ROIAlign((side, side), 1 / stride, 0, aligned=True)
        self.fuse = convolution(channels, channels, norm)
        self.logits = OwnClassLogits(channels, num_classes)

    def forward(
        self, x: torch.Tensor, logits: torch.Tensor, detail: torch.Tensor, rois: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            x: (B, C', S/2, S/2) of the stage before.
            logits: (B, S/2, S/2) of the stage before.
            detail: (N, D, H, W).
            rois: (B, 5): number of the image, box in pixels.
            classes: (B,) int64.

        Returns:
            (B, C, S, S), and logits (B, S, S), at least float32.
        """
        mask = logits.sigmoid()[:, None] * 2 - 1
        x = enlarged(self.reduce(x) + (mask * self.mask[:, None, None]).to(x.dtype))
        x = F.relu_(x + pool_cells(self.detail(detail), rois, self.pooler).to(x.dtype))
        x = self.fuse(x)
        return x, enlarged(logits[:, None])[:, 0] + self.logits(x, classes)
