import pytest
import torch

from detectron2.layers import paste_masks_in_image
from detectron2.layers.mask_ops import _do_paste_mask


def test_full_mask_fills_its_box() -> None:
    pasted = paste_masks_in_image(torch.ones(1, 2, 2), torch.tensor([[1.0, 2, 4, 5]]), (6, 7))
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[2:5, 1:4] = True
    assert torch.equal(pasted[0], expected)


def test_soft_mask() -> None:
    # A 2 x 2 mask on a 2 x 2 box: the pixels are the mask.
    mask = torch.tensor([[[0.0, 1.0], [0.2, 0.6]]])
    pasted = paste_masks_in_image(mask, torch.tensor([[0.0, 0, 2, 2]]), (2, 2), threshold=-1)
    assert pasted.tolist() == [[[0, 255], [51, 153]]]


def test_box_outside_the_image_pastes_nothing() -> None:
    pasted = paste_masks_in_image(torch.ones(1, 2, 2), torch.tensor([[-9.0, -9, -5, -5]]), (4, 4))
    assert not pasted.any()


def test_no_masks() -> None:
    assert paste_masks_in_image(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


def test_region_equals_whole_image() -> None:
    torch.manual_seed(0)
    masks = torch.rand(9, 1, 7, 7)
    corner = torch.rand(9, 2) * 20 - 5
    boxes = torch.cat([corner, corner + torch.rand(9, 2) * 15 + 0.5], dim=1)
    whole, _ = _do_paste_mask(masks, boxes, 20, 24, skip_empty=False)
    for i in range(9):
        part, region = _do_paste_mask(masks[i : i + 1], boxes[i : i + 1], 20, 24)
        embedded = torch.zeros(20, 24)
        embedded[region] = part[0]
        torch.testing.assert_close(embedded, whole[i])


def test_only_square_masks() -> None:
    with pytest.raises(AssertionError, match="square"):
        paste_masks_in_image(torch.zeros(1, 2, 3), torch.zeros(1, 4), (4, 4))
