"""The test utilities themselves."""

import pytest
import torch

from detectron2.structures import Boxes, Instances
from detectron2.utils.testing import assert_instances_allclose, random_boxes


@pytest.mark.parametrize("max_coord", [1, 100])
def test_random_boxes(max_coord):
    boxes = random_boxes(500, max_coord)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.shape == (500, 4) and boxes.min() >= 0 and boxes.max() <= max_coord
    assert sides.min() >= max_coord / 100 * 0.99
    assert random_boxes(0).shape == (0, 4)


def _instances(shift=0.0, size=(10, 20), **more):
    boxes = torch.tensor([[1.0, 2.0, 100.0, 4.0]]) + shift
    return Instances(size, pred_boxes=Boxes(boxes), pred_classes=torch.tensor([3]), **more)


def test_equal_instances():
    assert_instances_allclose(_instances(), _instances(shift=5e-4))
    assert_instances_allclose(_instances(size=torch.tensor([10, 20])), _instances(), size_as_tensor=True)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (_instances(shift=0.1), "pred_boxes differs"),
        (_instances(size=(10, 21)), "image_size"),
        (_instances(scores=torch.ones(1)), "fields are"),
    ],
)
def test_differences_are_named(other, message):
    with pytest.raises(AssertionError, match=f"here: .*{message}"):
        assert_instances_allclose(_instances(), other, msg="here")
