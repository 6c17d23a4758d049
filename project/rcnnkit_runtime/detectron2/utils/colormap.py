"""A palette of colours that are told apart easily, and random picks from it."""

from __future__ import annotations

import colorsys
import random

import numpy as np

__all__ = ["colormap", "random_color", "random_colors"]

_NUM_HUES = 25
# Saturation and value of each lap around the colour wheel: strong colours first, then pale, then dark ones.
_LAPS = ((0.85, 0.95), (0.45, 1.0), (0.9, 0.65))


def _build_palette() -> np.ndarray:
    # Steps of the golden angle keep neighbours in the list far apart on the wheel.
    golden_step = 0.618033988749895
    colors = [
        colorsys.hsv_to_rgb((0.58 + index * golden_step) % 1.0, saturation, value)
        for saturation, value in _LAPS
        for index in range(_NUM_HUES)
    ]
    return np.array(colors, dtype=np.float32)


_COLORS = _build_palette()


def colormap(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """All colours of the palette.

    Args:
        rgb: in the order RGB; default BGR.
        maximum: the value of full intensity, 255 or 1.

    Returns:
        float32 array of shape [number of colours, 3].
    """
    assert maximum in (255, 1), f"maximum must be 255 or 1, got {maximum}"
    colors = _COLORS * maximum
    return colors if rgb else colors[:, ::-1]


def random_color(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """One colour of the palette, float32 of shape [3], drawn with Python's `random`."""
    return random.choice(_COLORS if rgb else _COLORS[:, ::-1]) * maximum


def random_colors(N: int, rgb: bool = False, maximum: float = 255) -> list[np.ndarray]:
    """N different colours of the palette, each float32 of shape [3].

    Raises:
        ValueError: N is larger than the palette.
    """
    if len(_COLORS) < N:
        raise ValueError(f"the palette has {len(_COLORS)} colours, {N} different ones were asked for")
    colors = colormap(rgb=rgb, maximum=maximum)
    return [colors[index] for index in random.sample(range(len(colors)), N)]
