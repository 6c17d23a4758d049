"""Shape of a feature map, as far as a module knows it before it has seen data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """What a backbone promises about one of its outputs, and a head expects of its input.

    Attributes:
        channels: number of channels.
        height: height in pixels of the feature map.
        width: width in pixels of the feature map.
        stride: pixels of the input image per pixel of the feature map.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
