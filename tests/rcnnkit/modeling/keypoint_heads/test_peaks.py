"""Peaks are found between grid positions, wherever they lie."""

import math

import pytest
import torch

from rcnnkit.modeling.keypoint_heads.peaks import peak_1d, peak_2d, window_radius


def parabola(tops: torch.Tensor, length: int, sigma: float) -> torch.Tensor:
    """(N, L) logarithms of Gaussians around `tops` (N,)."""
    return -(torch.arange(length) - tops[:, None]).square() / (2 * sigma**2)


def test_by_hand():
    # −(i − 3.25)² / 2 for i = 0 … 6: the highest is i = 3; there the slope is 0.25 and the curvature −1.
    logits = torch.tensor([[-5.28125, -2.53125, -0.78125, -0.03125, -0.28125, -1.53125, -3.78125]])
    assert peak_1d(logits, 1.0).item() == pytest.approx(3.25, abs=1e-5)
    # A tilted quadric −(u² + v² + u v), u = x − 2.5, v = y − 3: its axes are not those of the grid.
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    u, v = x - 2.5, y - 3
    assert peak_2d(-(u * u + v * v + u * v)[None], 1.0)[0].tolist() == pytest.approx([2.5, 3.0], abs=1e-5)


@pytest.mark.parametrize("sigma", [0.8, 1.0, 2.0, 4.0])
def test_everywhere_in_a_row_its_ends_too(sigma):
    tops = torch.linspace(-0.5, 27.5, 561)
    for offset in (0.0, -300.0, 1000.0):  # logits have any offset
        found = peak_1d(parabola(tops, 28, sigma) + offset, sigma)
        assert (found - tops).abs().max() < 2e-3


@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_everywhere_in_a_map_its_corners_too(sigma):
    places = torch.linspace(-0.5, 13.5, 57)
    y, x = (grid.flatten() for grid in torch.meshgrid(places, places, indexing="ij"))
    maps = parabola(y, 14, sigma)[:, :, None] + parabola(x, 14, sigma)[:, None, :]
    found = peak_2d(maps, sigma)
    assert (found - torch.stack([x, y], dim=1)).abs().max() < 2e-3


def test_maps_need_not_be_square():
    maps = parabola(torch.tensor([2.3]), 9, 1.0)[:, :, None] + parabola(torch.tensor([10.6]), 13, 1.0)[:, None, :]
    assert peak_2d(maps, 1.0)[0].tolist() == pytest.approx([10.6, 2.3], abs=1e-4)


def test_noise_moves_a_peak_less_than_finite_differences_would():
    tops = torch.linspace(5, 20, 400)
    noisy = parabola(tops, 28, 2.0) + 0.02 * torch.randn(400, 28)
    highest = noisy.argmax(dim=1).clamp(1, 26)[:, None]
    before, at, after = (noisy.gather(1, highest + step)[:, 0] for step in (-1, 0, 1))
    differences = highest[:, 0] - (after - before) / 2 / (after - 2 * at + before)
    error = (peak_1d(noisy, 2.0) - tops).square().mean().sqrt()
    assert error < 0.07 and error < 0.7 * (differences - tops).square().mean().sqrt()


def test_logits_without_a_top_give_their_maximum():
    assert peak_1d(torch.zeros(1, 7), 1.0).tolist() == [0.0]
    spike = torch.zeros(1, 7, 7)
    assert peak_2d(spike, 1.0).tolist() == [[0.0, 0.0]]
    valley = torch.arange(7.0).square()[None]  # grows to the end, ever faster
    assert peak_1d(valley, 1.0).tolist() == [6.0]


def test_a_crooked_peak_stays_beside_its_maximum_and_in_the_map():
    slope = torch.arange(9.0)[None] * 10 - 0.001 * torch.arange(9.0).square()
    assert peak_1d(slope, 1.0).tolist() == [8.5]


def test_no_maps():
    assert peak_1d(torch.zeros(0, 9), 1.0).shape == (0,)
    assert peak_2d(torch.zeros(0, 9, 9), 1.0).shape == (0, 2)


def test_a_map_smaller_than_the_window_is_refused():
    assert window_radius(2.0) == 3 and window_radius(0.5) == 2 and window_radius(4.0) == math.ceil(6.0)
    with pytest.raises(ValueError, match="map of 6 positions is too small for a window of 7: make sigma smaller"):
        peak_1d(torch.zeros(1, 6), 2.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_mixed_precision_as_exact(dtype):
    tops = torch.linspace(3, 24, 101)
    with torch.autocast("cpu", dtype):
        row = peak_1d(parabola(tops, 28, 2.0), 2.0)
        place = peak_2d(parabola(tops, 28, 2.0)[:, :, None] + parabola(tops, 28, 2.0)[:, None, :], 2.0)
    assert (row - tops).abs().max() < 2e-3 and (place - tops[:, None]).abs().max() < 2e-3
