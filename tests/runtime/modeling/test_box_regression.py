import math

import pytest
import torch

from detectron2.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    Box2BoxTransformRotated,
    _dense_box_regression_loss,
)
from detectron2.structures import Boxes

SRC = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
TARGET = torch.tensor([[1.0, 2.0, 12.0, 18.0]])


def test_deltas_by_hand():
    # Centres (5, 10) and (6.5, 10), sizes (10, 20) and (11, 16).
    deltas = Box2BoxTransform((10.0, 10.0, 5.0, 5.0)).get_deltas(SRC, TARGET)
    torch.testing.assert_close(deltas, torch.tensor([[1.5, 0.0, 5 * math.log(1.1), 5 * math.log(0.8)]]))


def test_decoding_inverts_encoding_and_takes_several_predictions_per_box():
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    deltas = transform.get_deltas(SRC, TARGET)
    decoded = transform.apply_deltas(torch.cat([deltas, torch.zeros(1, 4)], dim=1), SRC)
    torch.testing.assert_close(decoded, torch.cat([TARGET, SRC], dim=1))


def test_growth_is_clamped():
    decoded = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).apply_deltas(torch.tensor([[0.0, 0.0, 50.0, 0.0]]), SRC)
    torch.testing.assert_close(decoded, torch.tensor([[5 - 312.5, 0.0, 5 + 312.5, 20.0]]))


def test_half_precision_deltas_decode_to_float32():
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    decoded = transform.apply_deltas(torch.zeros(1, 4).half(), torch.tensor([[2001.0, 0.0, 2003.0, 5.0]]))
    assert decoded.dtype == torch.float32
    assert decoded.tolist() == [[2001.0, 0.0, 2003.0, 5.0]]


@pytest.mark.parametrize("transform", [Box2BoxTransform((1.0, 1.0, 1.0, 1.0)), Box2BoxTransformLinear()])
def test_no_boxes(transform):
    empty = torch.zeros(0, 4)
    assert transform.get_deltas(empty, empty).shape == (0, 4)
    assert transform.apply_deltas(empty, empty).shape == (0, 4)


def test_no_boxes_with_several_predictions_each():
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    assert transform.apply_deltas(torch.zeros(0, 8), torch.zeros(0, 4)).shape == (0, 8)


def test_a_source_without_width_is_refused():
    with pytest.raises(AssertionError, match="not valid"):
        Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(torch.tensor([[3.0, 3.0, 3.0, 4.0]]), TARGET)


def test_linear_distances_by_hand():
    # From the centre (5, 10): 4 left, 8 up, 7 right, 8 down.
    torch.testing.assert_close(
        Box2BoxTransformLinear(False).get_deltas(SRC, TARGET), torch.tensor([[4.0, 8.0, 7.0, 8.0]])
    )
    transform = Box2BoxTransformLinear()
    deltas = transform.get_deltas(SRC, TARGET)
    torch.testing.assert_close(deltas, torch.tensor([[0.4, 0.4, 0.7, 0.4]]))
    torch.testing.assert_close(transform.apply_deltas(deltas, SRC), TARGET)
    torch.testing.assert_close(transform.apply_deltas(deltas - 10, SRC), torch.tensor([[5.0, 10.0, 5.0, 10.0]]))


def test_rotated_boxes_say_what_to_do():
    with pytest.raises(NotImplementedError, match="RCNNKIT_ENGINE"):
        Box2BoxTransformRotated((1.0, 1.0, 1.0, 1.0, 1.0))


ANCHORS = [Boxes(SRC), Boxes(torch.tensor([[5.0, 5.0, 8.0, 9.0]]))]
GT = [torch.tensor([[1.0, 2.0, 12.0, 18.0], [5.0, 5.0, 8.0, 9.0]])]


def dense_loss(loss_type="smooth_l1", beta=0.0, mask=(True, True), deltas=None):
    deltas = deltas or [torch.full((1, 1, 4), 0.3), torch.full((1, 1, 4), 0.1)]
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    return _dense_box_regression_loss(ANCHORS, transform, deltas, GT, torch.tensor([mask]), loss_type, beta)


def test_l1_by_hand():
    # Targets (0.15, 0, ln 1.1, ln 0.8) and zeros.
    first = 0.15 + 0.3 + (0.3 - math.log(1.1)) + (0.3 - math.log(0.8))
    torch.testing.assert_close(dense_loss(), torch.tensor(first + 0.4))
    torch.testing.assert_close(dense_loss(mask=(True, False)), torch.tensor(first))
    torch.testing.assert_close(dense_loss(beta=0.1, mask=(False, True)), torch.tensor(4 * 0.05))


@pytest.mark.parametrize(("loss_type", "expected"), [("giou", 0.8859), ("diou", 0.9117), ("ciou", 0.9119)])
def test_losses_on_decoded_boxes(loss_type, expected):
    # The values are those of Detectron2.
    torch.testing.assert_close(dense_loss(loss_type), torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_no_foreground_is_zero_with_a_gradient(loss_type):
    deltas = [torch.full((1, 1, 4), 0.3, requires_grad=True), torch.full((1, 1, 4), 0.1, requires_grad=True)]
    loss = dense_loss(loss_type, mask=(False, False), deltas=deltas)
    assert loss.item() == 0
    loss.backward()
    assert all(level.grad.abs().sum() == 0 for level in deltas)


def test_unknown_loss():
    with pytest.raises(ValueError, match="huber"):
        dense_loss("huber")
