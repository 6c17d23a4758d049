"""RoIPool (Girshick, "Fast R-CNN", ICCV 2015) as a module that takes boxes of any float dtype."""

from __future__ import annotations

import torchvision
from torch import Tensor


class RoIPool(torchvision.ops.RoIPool):
    """Crop boxes from feature maps by the maximum over the bins of a grid.

    Args:
        output_size: (height, width) of the grid.
        spatial_scale: factor from box coordinates to feature-map coordinates.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Map (N, C, H, W) and (R, 5) rois of (index of the image, x0, y0, x1, y1) to (R, C, height, width)."""
        return super().forward(input, rois.to(dtype=input.dtype))
