"""RoIAlign of rotated boxes: the name exists, the built-in engine does not compute it."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn

from detectron2.layers.rotated_boxes import rotated_unsupported


class ROIAlignRotated(nn.Module):
    """Raises NotImplementedError when it is built."""

    def __init__(self, output_size: Any, spatial_scale: float, sampling_ratio: int) -> None:
        rotated_unsupported("ROIAlignRotated")


def roi_align_rotated(*args: Any) -> NoReturn:
    """Always raises NotImplementedError."""
    rotated_unsupported("roi_align_rotated")
