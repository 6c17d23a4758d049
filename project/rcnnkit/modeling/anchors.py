"""Anchors as other detectors lay them.

Shapes:
    A: number of anchors per cell
"""

from collections.abc import Sequence

import torch

from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator


@ANCHOR_GENERATOR_REGISTRY.register()
class RoundedAnchorGenerator(DefaultAnchorGenerator):
    """Anchors whose corners around the origin are whole pixels, as torchvision's detectors have them."""

    def generate_cell_anchors(
        self, sizes: Sequence[float] = (32, 64, 128, 256, 512), aspect_ratios: Sequence[float] = (0.5, 1, 2)
    ) -> torch.Tensor:
        """(A, 4) XYXY anchors around the origin in pixels, halves rounded to even."""
        return super().generate_cell_anchors(sizes, aspect_ratios).round()
