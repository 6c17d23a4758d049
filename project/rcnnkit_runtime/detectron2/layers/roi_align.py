"""RoIAlign (He et al., "Mask R-CNN", ICCV 2017) as a module."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import roi_align

from detectron2.layers import gathered_roi_align


class ROIAlign(nn.Module):
    """Crop boxes from feature maps by bilinear sampling, averaged over the bins of a grid.

    Args:
        output_size: (height, width) of the grid, or one number for both.
        spatial_scale: factor from box coordinates to feature-map coordinates.
        sampling_ratio: samples per bin and direction; 0 takes as many as cover the bin, ceil(size of the bin).
        aligned: True puts the centre of pixel i at i + 0.5, as a continuous coordinate has it; False keeps the
            half-pixel shift of the first implementations.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Crop.

        Args:
            input: (N, C, H, W).
            rois: (R, 5), each (index of the image, x0, y0, x1, y1) in pixels of the coordinates that
                ``spatial_scale`` refers to.

        Returns:
            (R, C, output height, output width).
        """
        assert rois.dim() == 2 and rois.size(1) == 5, f"rois must have shape (R, 5), got {tuple(rois.shape)}"
        rois = rois.to(dtype=input.dtype)
        side = self.output_size
        size = (side, side) if isinstance(side, int) else (side[0], side[1])
        if gathered_roi_align.is_worthwhile(input, rois, size, self.spatial_scale, self.sampling_ratio):
            return gathered_roi_align.gathered_roi_align(input, rois, size, self.spatial_scale, self.aligned)
        return roi_align(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )

    def __repr__(self) -> str:
        return (
            f"ROIAlign(output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned})"
        )
