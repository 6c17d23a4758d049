"""RoIAlign by gathered rows against torchvision's operator, awkward boxes included."""

import pytest
import torch
from torchvision.ops import roi_align

from detectron2.layers import ROIAlign
from detectron2.layers import gathered_roi_align as gathered
from detectron2.layers.gathered_roi_align import axis_taps, gathered_roi_align, is_worthwhile


def awkward_boxes() -> torch.Tensor:
    """(R, 5) boxes in pixels of a picture of 160 x 120, on two images."""
    corner = torch.rand(60, 2) * torch.tensor([160.0, 120.0])
    sides = torch.rand(60, 2) * 90 + 1
    boxes = torch.cat([torch.randint(0, 2, (60, 1)).float(), corner - sides / 2, corner + sides / 2], dim=1)
    special = torch.tensor(
        [
            [0, 50, 50, 50, 50],  # a point
            [1, 50, 50, 50, 90],  # a line
            [0, 90, 90, 50, 50],  # corners swapped
            [1, -80, -80, -40, -40],  # outside
            [0, -40, -40, 300, 260],  # larger than the picture
            [1, 150, 110, 170, 130],  # over the far corner
            [0, 0, 0, 159, 3],  # long and thin
        ],
        dtype=torch.float32,
    )
    return torch.cat([boxes, special])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [(7, 7), (14, 14), (3, 5), (2, 2)])
def test_equals_torchvision(aligned, size):
    features, rois = torch.randn(2, 16, 30, 40), awkward_boxes()
    expected = roi_align(features, rois, size, 0.25, 0, aligned)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        got = gathered_roi_align(features.contiguous(memory_format=memory_format), rois, size, 0.25, aligned)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [(7, 7), (14, 14)])
def test_whole_cells_round_as_torchvisions_at_the_borders(aligned, size):
    # samples exactly at -1 or at the far side count or not by the last digit
    features = torch.randn(1, 16, 50, 68)
    lowest = torch.tensor([-20, -3, 45]).repeat_interleave(400)[:, None]
    corner = lowest + (torch.rand(1200, 2) * torch.tensor([[110], [9], [30]]).repeat_interleave(400, dim=0)).long()
    rois = torch.cat([torch.zeros(1200, 1), corner, corner + torch.randint(0, 60, (1200, 2))], dim=1)
    got = gathered_roi_align(features, rois, size, 1.0, aligned)
    expected = roi_align(features, rois, size, 1.0, 0, aligned)
    torch.testing.assert_close(got, expected, atol=3e-5, rtol=1e-5)


def test_taps_of_one_box_by_hand():
    # from 0.5 to 2.5 in one bin of two samples, at 1 and 2: half a weight each on pixels 1 and 2
    pixels, weights = axis_taps(torch.tensor([0.5]), torch.tensor([2.0]), 1, torch.tensor([2]), 2, 10)
    assert pixels.tolist() == [[[1, 2, 3]]]
    assert weights.tolist() == [[[0.5, 0.5, 0.0]]]


def test_module_gives_the_same_with_and_without_gradients():
    features, rois = torch.randn(2, 16, 30, 40), awkward_boxes()
    pool = ROIAlign((7, 7), 0.25, 0, aligned=True)
    with torch.no_grad():
        assert is_worthwhile(features, rois, (7, 7), 0.25, 0)
        torch.testing.assert_close(
            pool(features, rois), roi_align(features, rois, 7, 0.25, 0, True), atol=1e-5, rtol=1e-5
        )
    features.requires_grad_()
    pool(features, rois).sum().backward()
    assert features.grad.abs().sum() > 0


def test_gradient_equals_torchvisions():
    rois = awkward_boxes()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        features = torch.randn(2, 16, 30, 40).contiguous(memory_format=memory_format)
        features.requires_grad_()
        upstream = torch.randn(len(rois), 16, 7, 7)
        (expected,) = torch.autograd.grad(roi_align(features, rois, 7, 0.25, 0, True), features, upstream)
        (got,) = torch.autograd.grad(gathered_roi_align(features, rois, (7, 7), 0.25, True), features, upstream)
        torch.testing.assert_close(got, expected, atol=3e-5, rtol=1e-5)


def test_gradient_by_finite_differences():
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 1, 2, 15, 14], [1, -3, 0, 30, 9], [1, 4, 4, 4, 4]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: gathered_roi_align(f, rois, (2, 3), 0.25, True), features)


@pytest.mark.parametrize("aligned", [True, False])
def test_number_of_entries_bounds_what_is_kept_for_the_gradient(aligned, monkeypatch):
    features, rois = torch.randn(2, 16, 30, 40, requires_grad=True), awkward_boxes()
    pooled = gathered_roi_align(features, rois, (7, 7), 0.25, aligned)
    entries = len(pooled.grad_fn.saved_tensors[0])
    counted = gathered._num_entries((rois[:, 3:5] - rois[:, 1:3]).abs() * 0.25, (7, 7))
    assert 0.9 * counted <= entries <= counted

    monkeypatch.setattr(gathered, "MAX_ENTRIES_FOR_GRADIENT", counted)
    assert is_worthwhile(features, rois, (7, 7), 0.25, 0)
    monkeypatch.setattr(gathered, "MAX_ENTRIES_FOR_GRADIENT", counted - 1)
    assert not is_worthwhile(features, rois, (7, 7), 0.25, 0)
    assert is_worthwhile(features.detach(), rois, (7, 7), 0.25, 0)
    with torch.no_grad():
        assert is_worthwhile(features, rois, (7, 7), 0.25, 0)


def test_tensors_are_made_on_the_device_of_the_boxes():
    features, rois = torch.randn(1, 16, 8, 8, requires_grad=True), torch.tensor([[0.0, 1, 1, 6, 5]])
    with torch.device("meta"):  # as by torch.set_default_device
        assert is_worthwhile(features, rois, (2, 2), 1.0, 0)
        got = gathered_roi_align(features, rois, (2, 2), 1.0, True)
    torch.testing.assert_close(got, roi_align(features, rois, 2, 1.0, 0, True), atol=1e-5, rtol=1e-5)


def test_leaves_the_rest_to_torchvision():
    features, rois = torch.randn(2, 16, 30, 40), awkward_boxes()
    assert not is_worthwhile(features, rois, (7, 7), 0.25, 2)
    assert not is_worthwhile(features.double(), rois, (7, 7), 0.25, 0)
    assert not is_worthwhile(features, rois[:0], (7, 7), 0.25, 0)
    assert not is_worthwhile(features, torch.tensor([[0, 0, 0, 1e6, 1]]), (7, 7), 0.25, 0)
    assert not is_worthwhile(features, torch.tensor([[0, 0, 0, float("nan"), 1]]), (7, 7), 0.25, 0)
    assert ROIAlign(7, 0.25, 0)(features, rois[:0]).shape == (0, 16, 7, 7)
