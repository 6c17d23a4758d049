import pytest
import torch

from detectron2.layers import (
    Conv2d,
    DeformConv,
    ModulatedDeformConv,
    ROIAlign,
    ROIAlignRotated,
    ShapeSpec,
    batched_nms,
    cat,
    ciou_loss,
    cross_entropy,
    diou_loss,
    nonzero_tuple,
    shapes_to_tensor,
)
from detectron2.layers.nms import nms_rotated
from detectron2.layers.wrappers import _NewEmptyTensorOp


def test_mean_of_no_losses_is_zero_with_gradient() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = cross_entropy(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.shape == (0, 3)


def test_single_tensor_is_not_copied() -> None:
    x = torch.ones(2)
    assert cat([x]) is x
    assert cat([x, x]).tolist() == [1.0] * 4


def test_nonzero_tuple_of_a_scalar() -> None:
    assert [i.tolist() for i in nonzero_tuple(torch.tensor(3))] == [[0]]


def test_shapes_to_tensor() -> None:
    assert shapes_to_tensor([1, 2]).tolist() == [1, 2]
    assert shapes_to_tensor([torch.tensor(3), torch.tensor(4)]).tolist() == [3, 4]


def test_conv_of_no_images() -> None:
    assert Conv2d(3, 4, 3, stride=2)(torch.zeros(0, 3, 9, 9)).shape == (0, 4, 4, 4)


def test_nms_per_category() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [1, 1, 10, 10]])
    # Box 2 overlaps box 1 of its category by 81 / 100; box 0 is of another category.
    kept = batched_nms(boxes, torch.tensor([0.5, 0.9, 0.8]), torch.tensor([0, 1, 1]), 0.5)
    assert kept.tolist() == [1, 0]
    assert batched_nms(boxes[:0], torch.zeros(0), torch.zeros(0), 0.5).shape == (0,)


def test_roi_align_averages_a_ramp() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # value of pixel i is i, so i + 0.5 - 0.5 at its centre
    out = ROIAlign((1, 2), 1.0, 0)(ramp, torch.tensor([[0.0, 2, 2, 6, 6]]))
    assert out.flatten().tolist() == pytest.approx([2.5, 4.5])
    assert ROIAlign((1, 2), 1.0, 0)(ramp, torch.zeros(0, 5)).shape == (0, 1, 1, 2)


def test_iou_losses() -> None:
    # IoU 0; centres (1, 1) and (4, 1), distance^2 9; enclosing box 5 x 2, diagonal^2 29.
    first, second = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[3.0, 0, 5, 2]])
    assert diou_loss(first, second).item() == pytest.approx(1 + 9 / 29)
    assert ciou_loss(first, second).item() == pytest.approx(1 + 9 / 29)
    assert diou_loss(first[:0], second[:0], "mean").item() == 0.0


@pytest.mark.parametrize("layer", [DeformConv, ModulatedDeformConv])
def test_deformable_without_displacement_is_a_convolution(layer: type) -> None:
    conv = layer(2, 3, 3, padding=1)
    x = torch.randn(1, 2, 5, 5)
    extra = () if layer is DeformConv else (torch.ones(1, 9, 5, 5),)
    expected = torch.nn.functional.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x, torch.zeros(1, 18, 5, 5), *extra), expected)
    assert set(conv.state_dict()) == ({"weight"} if layer is DeformConv else {"weight", "bias"})


def test_shape_spec_equality() -> None:
    assert ShapeSpec(3) == ShapeSpec(channels=3)


def test_rotated_names_say_so() -> None:
    with pytest.raises(NotImplementedError, match="ROIAlignRotated"):
        ROIAlignRotated(7, 1.0, 0)
    with pytest.raises(NotImplementedError, match="nms_rotated"):
        nms_rotated(torch.zeros(0, 5), torch.zeros(0), 0.5)


def test_a_new_empty_tensor_keeps_the_gradient_path():
    x = torch.zeros(0, 3, requires_grad=True)
    made = _NewEmptyTensorOp.apply(x, (0, 5, 2))
    made.sum().backward()
    assert made.shape == (0, 5, 2) and x.grad.shape == (0, 3)
