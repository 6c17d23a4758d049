"""Keypoints, and the heatmaps they are learnt as (He et al., "Mask R-CNN", ICCV 2017, section 5).

Shapes: N objects, K keypoints per object, S x S heatmap. Coordinates are absolute pixels, continuous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, device
from torch.nn import functional as F


class Keypoints:
    """Keypoints as a float32 tensor of shape (N, K, 3), each (x, y, v).

    v is COCO's: 0 not labelled, 1 labelled but hidden, 2 visible.

    Args:
        keypoints: (N, K, 3) tensor, array or nested lists.
    """

    def __init__(self, keypoints: Tensor | np.ndarray | Sequence[Any]) -> None:
        target = keypoints.device if isinstance(keypoints, Tensor) else torch.device("cpu")
        tensor = torch.as_tensor(keypoints, dtype=torch.float32, device=target)
        assert tensor.dim() == 3 and tensor.shape[2] == 3, f"Keypoints have shape (N, K, 3), got {tuple(tensor.shape)}"
        self.tensor: Tensor = tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> Keypoints:
        """The keypoints after ``Tensor.to`` with the same arguments."""
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> device:
        """Device of the tensor."""
        return self.tensor.device

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """Where keypoints fall in heatmaps over boxes.

        Args:
            boxes: (N, 4) XYXY.
            heatmap_size: S.

        Returns:
            (N, K) int64 index of the cell, y * S + x, and (N, K) int64 1 where the keypoint is labelled and lies in
            its box, else 0; the index is 0 there.
        """
        return _keypoints_to_heatmap(self.tensor, boxes, heatmap_size)

    def __getitem__(self, item: Any) -> Keypoints:
        """Select by integer (gives one object), slice, indices or bool mask."""
        if isinstance(item, int):
            return Keypoints(self.tensor[item][None])
        return Keypoints(self.tensor[item])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    @staticmethod
    def cat(keypoints_list: Sequence[Keypoints]) -> Keypoints:
        """The keypoints of all objects of a list."""
        assert isinstance(keypoints_list, (list, tuple)) and len(keypoints_list) > 0, "Keypoints.cat needs a list"
        assert all(isinstance(keypoints, Keypoints) for keypoints in keypoints_list), "Keypoints.cat takes Keypoints"
        return type(keypoints_list[0])(torch.cat([keypoints.tensor for keypoints in keypoints_list], dim=0))


def _keypoints_to_heatmap(keypoints: Tensor, rois: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
    """``Keypoints.to_heatmap`` on a tensor of shape (N, K, 3)."""
    if rois.numel() == 0:
        empty = rois.new_zeros(keypoints.shape[:2]).long() if keypoints.numel() else rois.new_zeros(0).long()
        return empty, empty.clone()
    low, high = rois[:, None, :2], rois[:, None, 2:]
    points = keypoints[..., :2]
    cells = ((points - low) * (heatmap_size / (high - low))).floor().long()
    # The far edge belongs to the last cell, so that a keypoint on the border of its box is not lost.
    cells = torch.where(points == high, heatmap_size - 1, cells)
    inside = ((cells >= 0) & (cells < heatmap_size)).all(dim=2)
    valid = (inside & (keypoints[..., 2] > 0)).long()
    return (cells[..., 1] * heatmap_size + cells[..., 0]) * valid, valid


@torch.no_grad()
@torch.jit.script_if_tracing
def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """Find each keypoint as the peak of its heatmap, enlarged bicubically to the pixels of its box.

    Args:
        maps: (N, K, S, S) logits.
        rois: (N, 4) XYXY.

    Returns:
        (N, K, 4) of x, y, logit at the peak, and score: the peak's share in a softmax over the S x S heatmap.
    """
    num_keypoints = maps.shape[1]
    found = torch.zeros([rois.shape[0], num_keypoints, 4], dtype=maps.dtype, device=maps.device)
    if rois.shape[0] == 0:
        return found
    sizes = (rois[:, 2:] - rois[:, :2]).clamp(min=1)
    pixels = sizes.ceil()
    whole_pixels: list[list[int]] = pixels.long().tolist()
    for i, (width, height) in enumerate(whole_pixels):
        enlarged = F.interpolate(maps[i : i + 1], size=[height, width], mode="bicubic", align_corners=False)[0]
        peak, position = enlarged.flatten(1).max(dim=1)
        cell = torch.stack([position % width, position // width], dim=1)
        found[i, :, :2] = (cell + 0.5) * (sizes[i] / pixels[i]) + rois[i, :2]
        found[i, :, 2] = peak
        found[i, :, 3] = (maps[i].flatten(1) - peak[:, None]).exp().sum(dim=1).reciprocal()
    return found
