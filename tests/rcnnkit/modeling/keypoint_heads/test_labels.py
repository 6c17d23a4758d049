"""Which points are learnt, and how predictions come into instances."""

import math

import pytest
import torch

from detectron2.structures import Boxes, Instances, Keypoints
from rcnnkit.modeling.keypoint_heads.labels import (
    class_points,
    in_boxes,
    keypoint_labels,
    points_of_classes,
    set_keypoints,
    visibility_loss,
)

LIKE = torch.zeros(1)


def sampled(boxes, classes, keypoints) -> Instances:
    instances = Instances((100, 100))
    instances.proposal_boxes = Boxes(torch.tensor(boxes))
    instances.gt_classes = torch.tensor(classes)
    instances.gt_keypoints = Keypoints(torch.tensor(keypoints))
    return instances


def without_objects() -> Instances:
    instances = Instances((100, 100))
    instances.proposal_boxes = Boxes(torch.zeros(0, 4))
    return instances


def test_points_in_fractions_of_their_boxes():
    # Box 10 … 30 × 20 … 60. (15, 50): 5 / 20, 30 / 40. The corner (30, 60) belongs to the box, (31, 60) does not.
    instances = sampled(
        [[10.0, 20.0, 30.0, 60.0]], [0], [[[15.0, 50.0, 2.0], [30.0, 60.0, 1.0], [31.0, 60.0, 2.0], [0.0, 0.0, 0.0]]]
    )
    labels = keypoint_labels([instances], None, LIKE, 4)
    assert labels.points[0, :2].flatten().tolist() == [0.25, 0.75, 1.0, 1.0]
    assert labels.located.tolist() == [[True, True, False, False]]
    assert labels.visible.tolist() == [[True, False, True, False]]
    assert labels.judged.tolist() == [[True, True, False, True]]  # outside the box nothing shows whether it is seen
    assert in_boxes(labels.points, instances.proposal_boxes.tensor)[0, 0].tolist() == [15.0, 50.0]


def test_points_that_a_class_does_not_have_are_not_learnt():
    points = class_points([[0, 2], [1], []], 3)
    everywhere = [[[5.0, 5.0, 2.0]] * 3] * 3
    labels = keypoint_labels([sampled([[0.0, 0.0, 10.0, 10.0]] * 3, [0, 1, 2], everywhere)], points, LIKE, 3)
    expected = [[True, False, True], [False, True, False], [False, False, False]]
    assert labels.located.tolist() == labels.judged.tolist() == expected


def test_an_object_without_any_labelled_point_does_not_teach_that_they_are_hidden():
    labels = keypoint_labels([sampled([[0.0, 0.0, 10.0, 10.0]], [0], [[[0.0, 0.0, 0.0]] * 2])], None, LIKE, 2)
    assert not labels.located.any() and not labels.judged.any()


def test_a_box_without_area_locates_nothing():
    labels = keypoint_labels([sampled([[5.0, 5.0, 5.0, 9.0]], [0], [[[5.0, 6.0, 2.0]]])], None, LIKE, 1)
    assert not labels.located.any() and labels.points.isfinite().all()


def test_images_without_boxes_may_lack_the_fields():
    full = sampled([[0.0, 0.0, 10.0, 10.0]], [0], [[[5.0, 5.0, 2.0]]])
    labels = keypoint_labels([without_objects(), full, full[:0]], None, LIKE, 1)
    assert labels.located.tolist() == [[True]]
    nothing = keypoint_labels([without_objects()], None, LIKE, 4)
    assert nothing.points.shape == (0, 4, 2) and nothing.judged.shape == (0, 4)


def test_points_of_classes():
    assert class_points([], 3) is None
    assert points_of_classes(torch.tensor([1, 0]), None, 2).tolist() == [[True, True]] * 2
    assert points_of_classes(torch.tensor([1, 0]), class_points([[0], []], 2), 2).tolist() == [
        [False, False],
        [True, False],
    ]
    with pytest.raises(ValueError, match=r"CLASS_KEYPOINTS: class 1 has the point 3, but there are 3 \(0 to 2\)"):
        class_points([[0], [1, 3]], 3)


def test_the_visibility_loss_by_hand():
    # v = 2, 1 and 0 at logits 0, ln 3, −ln 3: −ln ½, −ln ¼, −ln ¾ = 0.693147, 1.386294, 0.287682; mean 0.789041
    instances = sampled([[0.0, 0.0, 9.0, 9.0]], [0], [[[5.0, 5.0, 2.0], [5.0, 5.0, 1.0], [0.0, 0.0, 0.0]]])
    labels = keypoint_labels([instances], None, LIKE, 3)
    logits = torch.tensor([[0.0, math.log(3), -math.log(3)]], dtype=torch.float64, requires_grad=True)
    assert visibility_loss(logits, labels).item() == pytest.approx(0.789041, abs=1e-6)
    assert torch.autograd.gradcheck(lambda x: visibility_loss(x, labels), [logits])


def test_nothing_judged_gives_0_with_a_gradient():
    logits = torch.randn(0, 3, requires_grad=True)
    loss = visibility_loss(logits, keypoint_labels([without_objects()], None, LIKE, 3))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None


def test_predictions_in_pixels():
    first, second = Instances((50, 50)), Instances((50, 50))
    first.pred_boxes, first.pred_classes = Boxes(torch.tensor([[10.0, 0.0, 30.0, 40.0]])), torch.tensor([0])
    second.pred_boxes, second.pred_classes = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]])), torch.tensor([1])
    points = torch.tensor([[[0.5, 0.25], [1.0, 0.0]], [[0.1, 0.2], [0.3, 0.4]]])
    scores = torch.tensor([[0.9, 0.8], [0.7, 0.6]])
    set_keypoints([first, second, first[:0]], points, scores, class_points([[0, 1], [1]], 2))
    assert first.pred_keypoints.flatten().tolist() == pytest.approx([20.0, 10.0, 0.9, 30.0, 0.0, 0.8])
    # its class does not have the first point: score 0, in the middle of the box
    assert second.pred_keypoints.flatten().tolist() == pytest.approx([5.0, 5.0, 0.0, 3.0, 4.0, 0.6])
