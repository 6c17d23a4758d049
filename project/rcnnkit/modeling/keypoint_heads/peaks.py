"""The place of a peak between grid positions: a quadric fitted to the logarithm of a distribution, around its maximum.

"Distribution-aware coordinate representation for human pose estimation" (DARK, Zhang et al., CVPR 2020,
arXiv 1910.06278) takes a heatmap for a Gaussian: its logarithm is a quadric, whose top follows from the first and
second derivatives at the maximum, x = m − H⁻¹ g. The paper smooths the heatmap and takes finite differences, which
bends peaks at the border, where the ends of an object lie. Here the derivatives are those of the weighted least-squares
quadric over a window that stays inside the map: exact on a Gaussian wherever it lies, and as deaf to noise.

Shape letters: N maps, L positions of a 1-D map, H, W of a 2-D map, R radius of the window.
Logits stand for logarithms: they differ from these by a constant for each map.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

# How far, in grid positions, the top may lie from the maximum on the grid: of a Gaussian 0.5; more on crooked peaks
# would leave what the maximum stands for.
MAX_SHIFT = 1.0


def window_radius(sigma: float) -> int:
    """R for a peak of this standard deviation: where a learnt peak still has the shape of its target."""
    return max(2, math.ceil(1.5 * sigma))


def window_size(sigma: float) -> int:
    """2 R + 1: the fewest positions that a map may have."""
    return 2 * window_radius(sigma) + 1


def peak_1d(logits: torch.Tensor, sigma: float) -> torch.Tensor:
    """The top of each 1-D map.

    Args:
        logits: (N, L) float, L ≥ 2 R + 1.
        sigma: standard deviation of the peaks, in positions; the fit weighs positions by a Gaussian of this width.

    Returns:
        (N,) position, the first is 0; −0.5 … L − 0.5. That of the maximum where the logits have no top around it.
    """
    length, radius = logits.shape[1], window_radius(sigma)
    _check_size(length, sigma)
    highest = logits.argmax(dim=1)
    centre = highest.clamp(radius, length - 1 - radius)
    offsets = torch.arange(-radius, radius + 1, device=logits.device)
    window = _below_highest(logits.gather(1, centre[:, None] + offsets))
    slope, curvature = _derivatives(window, _fit_1d(radius, sigma)).unbind(dim=1)
    has_top = curvature < 0
    top = centre - slope / torch.where(has_top, curvature, -1.0)
    return _near(torch.where(has_top, top, highest.to(top)), highest, length)


def peak_2d(logits: torch.Tensor, sigma: float) -> torch.Tensor:
    """The top of each 2-D map.

    Args:
        logits: (N, H, W) float, H and W ≥ 2 R + 1.
        sigma: as in `peak_1d`, in cells.

    Returns:
        (N, 2) x, y; the centre of the first cell is (0, 0); x in −0.5 … W − 0.5. Those of the maximum where the
        logits have no top around it.
    """
    height, width = logits.shape[1:]
    radius = window_radius(sigma)
    _check_size(min(height, width), sigma)
    flat = logits.flatten(1)
    highest = flat.argmax(dim=1)
    column, row = highest % width, torch.div(highest, width, rounding_mode="floor")
    centre_x, centre_y = column.clamp(radius, width - 1 - radius), row.clamp(radius, height - 1 - radius)
    offsets = torch.arange(-radius, radius + 1, device=logits.device)
    cells = (offsets[:, None] * width + offsets[None, :]).flatten()
    window = _below_highest(flat.gather(1, (centre_y * width + centre_x)[:, None] + cells))
    gx, gy, hxx, hyy, hxy = _derivatives(window, _fit_2d(radius, sigma)).unbind(dim=1)
    determinant = hxx * hyy - hxy * hxy
    has_top = (hxx < 0) & (determinant > 0)
    divisor = torch.where(has_top, determinant, 1.0)
    x = centre_x - (hyy * gx - hxy * gy) / divisor
    y = centre_y - (hxx * gy - hxy * gx) / divisor
    x, y = torch.where(has_top, x, column.to(x)), torch.where(has_top, y, row.to(y))
    return torch.stack([_near(x, column, width), _near(y, row, height)], dim=1)


def _below_highest(window: torch.Tensor) -> torch.Tensor:
    """The same derivatives, with small numbers: logits have any offset, and float32 seven digits."""
    return window - window.amax(dim=1, keepdim=True)


def _derivatives(window: torch.Tensor, fit: torch.Tensor) -> torch.Tensor:
    """(N, values) by (values, terms) → (N, terms). Autocast would do a matrix product in half precision."""
    return torch.stack([(window * column).sum(dim=1) for column in fit.to(window).T], dim=1)


def _near(top: torch.Tensor, highest: torch.Tensor, length: int) -> torch.Tensor:
    """The top held beside the maximum and inside the map."""
    return (highest + (top - highest).clamp(-MAX_SHIFT, MAX_SHIFT)).clamp(-0.5, length - 0.5)


def _check_size(length: int, sigma: float) -> None:
    if length < window_size(sigma):
        raise ValueError(
            f"a map of {length} positions is too small for a window of {window_size(sigma)}: make sigma smaller or the "
            "resolution of the keypoint pooler larger"
        )


@lru_cache(maxsize=16)
def _fit_1d(radius: int, sigma: float) -> torch.Tensor:
    """(2 R + 1, 2): values in the window → first and second derivative in its centre."""
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    terms = torch.stack([torch.ones_like(offset), offset, offset**2 / 2], dim=1)
    return _solution(terms, offset**2, sigma)[:, 1:]


@lru_cache(maxsize=16)
def _fit_2d(radius: int, sigma: float) -> torch.Tensor:
    """((2 R + 1)², 5): values in the window, by rows → gx, gy, hxx, hyy, hxy in its centre."""
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = (grid.flatten() for grid in torch.meshgrid(offset, offset, indexing="ij"))
    terms = torch.stack([torch.ones_like(x), x, y, x**2 / 2, y**2 / 2, x * y], dim=1)
    return _solution(terms, x**2 + y**2, sigma)[:, 1:]


def _solution(terms: torch.Tensor, squared_distance: torch.Tensor, sigma: float) -> torch.Tensor:
    """(values, terms): the weighted least-squares solution as a matrix."""
    root_weight = (-squared_distance / (4 * sigma**2)).exp()[:, None]
    return (torch.linalg.pinv(terms * root_weight) * root_weight.T).T
