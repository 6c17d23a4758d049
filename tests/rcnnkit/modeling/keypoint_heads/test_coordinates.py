"""Coordinates as classifications: targets, loss and decoding, by hand and on drawn peaks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnkit.modeling.keypoint_heads.coordinates import coordinate_loss, decode_bins, gaussian_bins


def test_a_gaussian_by_hand():
    # 4 bins with centres at 0 … 3; the fraction 0.375 is the centre 1: e^(−½), 1, e^(−½), e^(−2) over their sum
    # 2.348397.
    found = gaussian_bins(torch.tensor([0.375]), 4, 1.0)
    assert found[0].tolist() == pytest.approx([0.258275, 0.425822, 0.258275, 0.057629], abs=1e-6)


def test_the_loss_by_hand():
    # Three boxes, one keypoint, 2 bins. At 0.5 the target is ½, ½. Logits 0, ln 3 → ¼, ¾: ½ ln(4 / 3) = 0.143841.
    # Logits 0, 0 → 0. The third is not located.
    logits = torch.tensor([[[0.0, math.log(3)]], [[0.0, 0.0]], [[9.0, -9.0]]])
    coordinates = torch.full((3, 1), 0.5)
    located = torch.tensor([[True], [True], [False]])
    assert coordinate_loss(logits, coordinates, located, 1.0).item() == pytest.approx(0.143841 / 2, abs=1e-6)
    assert coordinate_loss(logits, coordinates, located, 1.0, normalizer=10.0).item() == pytest.approx(0.0143841)


@pytest.mark.parametrize("shape", [(0, 3, 8), (2, 3, 8)])
def test_nothing_located_gives_0_with_a_gradient(shape):
    logits = torch.randn(shape, requires_grad=True)
    loss = coordinate_loss(logits, torch.zeros(shape[:2]), torch.zeros(shape[:2], dtype=torch.bool), 1.0)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_the_gradient():
    logits = torch.randn(2, 2, 6, dtype=torch.float64, requires_grad=True)
    coordinates = torch.rand(2, 2, dtype=torch.float64)
    located = torch.tensor([[True, False], [True, True]])
    assert torch.autograd.gradcheck(lambda x: coordinate_loss(x, coordinates, located, 1.5), [logits])
    coordinate_loss(logits, coordinates, located, 1.5).backward()
    assert not logits.grad[0, 1].any() and logits.grad[0, 0].any()


@settings(max_examples=60, deadline=None)
@given(
    at=st.floats(0, 1), sigma=st.floats(0.8, 4), bins=st.integers(28, 112), size=st.floats(8, 400),
    offset=st.floats(-100, 100),
)  # fmt: skip
def test_decoding_is_exact_to_a_twentieth_of_a_pixel(at, sigma, bins, size, offset):
    logits = gaussian_bins(torch.tensor([at], dtype=torch.float64), bins, sigma).clamp(min=1e-300).log().float()
    found, score = decode_bins(logits[None] + offset, sigma)
    assert found.item() * size == pytest.approx(at * size, abs=0.05)
    assert 0.9 < score.item() <= 1


def test_the_score_is_the_share_around_the_coordinate():
    logits = torch.full((1, 1, 20), -50.0)
    logits[0, 0, 4], logits[0, 0, 15] = 0.0, -math.log(3)
    assert decode_bins(logits, 1.0)[1].item() == pytest.approx(0.75, abs=1e-5)
    # without a peak: the first bin and the three beside it of twenty
    assert decode_bins(torch.zeros(1, 1, 20), 1.0)[1].item() == pytest.approx(4 / 20)


def test_no_boxes():
    found, scores = decode_bins(torch.zeros(0, 3, 8), 1.0)
    assert found.shape == scores.shape == (0, 3)
