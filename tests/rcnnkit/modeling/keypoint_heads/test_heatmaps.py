"""Gaussian heatmaps: targets, loss and decoding, by hand and on drawn peaks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnkit.modeling.keypoint_heads.heatmaps import decode_heatmaps, gaussian_heatmaps, heatmap_loss
from rcnnkit.modeling.keypoint_heads.labels import in_boxes


def test_a_gaussian_by_hand():
    # One row of three cells with centres at 0, 1, 2; the point at 0.5 of the width is the centre 1, of height 1 the
    # centre 0. exp(−1 / 2) = 0.60653; the shares are 0.27406, 0.45186, 0.27406.
    found = gaussian_heatmaps(torch.tensor([[0.5, 0.5]]), height=1, width=3, sigma=1.0)
    assert found.flatten().tolist() == pytest.approx([0.27406, 0.45186, 0.27406], abs=1e-5)
    # x = 1/3 of the width lies between the first two cells, which share alike: e^(−1/8) each, the third e^(−9/8)
    two = math.exp(-1 / 8) / (2 * math.exp(-1 / 8) + math.exp(-9 / 8))
    found = gaussian_heatmaps(torch.tensor([[1 / 3, 0.5]]), height=1, width=3, sigma=1.0)
    assert found.flatten()[:2].tolist() == pytest.approx([two, two])


def test_heatmaps_sum_to_1_at_the_border_too():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.3], [0.51, 1.0]])
    assert gaussian_heatmaps(points, 7, 9, 1.5).sum(dim=(1, 2)).tolist() == pytest.approx([1.0] * 3)


def test_the_loss_by_hand():
    # Two keypoints over 1 × 2 cells, the point in the middle: the target is ½, ½. Equal logits: 0. Logits 0, ln 3:
    # shares ¼, ¾; ½ ln(½ / ¼) + ½ ln(½ / ¾) = ½ ln 2 − ½ ln 1.5 = ½ ln(4 / 3) = 0.143841.
    logits = torch.tensor([[[[5.0, 5.0]], [[0.0, math.log(3)]]]])
    points = torch.full((1, 2, 2), 0.5)
    both = torch.tensor([[True, True]])
    assert heatmap_loss(logits, points, both, 1.0).item() == pytest.approx(0.143841 / 2, abs=1e-6)
    assert heatmap_loss(logits, points, both, 1.0, normalizer=4.0).item() == pytest.approx(0.143841 / 4, abs=1e-6)
    assert heatmap_loss(logits, points, torch.tensor([[False, True]]), 1.0).item() == pytest.approx(0.143841, abs=1e-6)
    assert heatmap_loss(logits, points, torch.tensor([[True, False]]), 1.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 8, 8)])
def test_nothing_located_gives_0_with_a_gradient(shape):
    logits = torch.randn(shape, requires_grad=True)
    loss = heatmap_loss(logits, torch.zeros(*shape[:2], 2), torch.zeros(shape[:2], dtype=torch.bool), 1.0)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_the_gradient():
    logits = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    points = torch.rand(2, 2, 2, dtype=torch.float64)
    located = torch.tensor([[True, False], [True, True]])
    assert torch.autograd.gradcheck(lambda x: heatmap_loss(x, points, located, 1.0), [logits])
    heatmap_loss(logits, points, located, 1.0).backward()
    assert not logits.grad[0, 1].any() and logits.grad[0, 0].any()


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(0, 1), y=st.floats(0, 1), sigma=st.floats(0.8, 2.5), left=st.floats(-50, 900),
    width=st.floats(8, 400), height=st.floats(8, 400), offset=st.floats(-100, 100),
)  # fmt: skip
def test_decoding_is_exact_to_a_twentieth_of_a_pixel(x, y, sigma, left, width, height, offset):
    logits = gaussian_heatmaps(torch.tensor([[x, y]], dtype=torch.float64), 28, 28, sigma).log()[None].float() + offset
    points, scores = decode_heatmaps(logits, sigma)
    box = torch.tensor([[left, 7.0, left + width, 7.0 + height]])
    found = in_boxes(points, box)[0, 0]
    assert found[0].item() == pytest.approx(left + x * width, abs=0.05)
    assert found[1].item() == pytest.approx(7.0 + y * height, abs=0.05)
    assert 0.9 < scores.item() <= 1


def test_what_is_learnt_is_what_is_decoded():
    random = torch.Generator().manual_seed(0)
    points = torch.rand(4, 3, 2, generator=random)
    located = torch.ones(4, 3, dtype=torch.bool)
    logits = torch.zeros(4, 3, 28, 28, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(250):
        optimizer.zero_grad()
        loss = heatmap_loss(logits, points, located, 1.0)
        loss.backward()
        optimizer.step()
    found, scores = decode_heatmaps(logits.detach(), 1.0)
    assert loss.item() < 1e-2 and scores.min() > 0.95
    assert ((found - points) * 100).abs().max() < 0.05 * 28  # a twentieth of a cell of a box of 100 pixels


def test_the_score_is_the_share_around_the_point():
    two = torch.full((1, 1, 20, 20), -50.0)
    two[0, 0, 4, 4], two[0, 0, 15, 15] = 1.0, 1.0 - math.log(3)  # shares ¾ and ¼
    assert decode_heatmaps(two, 1.0)[1].item() == pytest.approx(0.75, abs=1e-5)
    flat = decode_heatmaps(torch.zeros(1, 1, 20, 20), 1.0)[1].item()
    assert flat == pytest.approx(11 / 400)  # the quarter disc of radius 3 around the corner has 11 of the 400 cells


def test_no_boxes():
    points, scores = decode_heatmaps(torch.zeros(0, 3, 8, 8), 1.0)
    assert points.shape == (0, 3, 2) and scores.shape == (0, 3)


def test_half_precision_is_decoded_as_float32():
    points, scores = decode_heatmaps(torch.randn(1, 2, 8, 8).to(torch.bfloat16), 1.0)
    assert points.dtype == scores.dtype == torch.float32
