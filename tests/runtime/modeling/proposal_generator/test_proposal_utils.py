import math

import pytest
import torch

from detectron2.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    find_top_rpn_proposals,
)
from detectron2.structures import Boxes, Instances

BOXES = torch.tensor(
    [[[0.0, 0, 5, 5], [0, 0, 5, 5.1], [3, 3, 3, 9], [-2, -3, 40, 8], [1, 1, 2, 2]]]
)  # the second covers the first, the third is empty, the fourth leaves the image
LOGITS = torch.tensor([[0.1, 0.3, 0.4, 0.2, 0.0]])


def find(boxes=BOXES, logits=LOGITS, pre=10, post=10, min_size=0.0, training=False):
    (result,) = find_top_rpn_proposals([boxes], [logits], [(10, 10)], 0.7, pre, post, min_size, training)
    return result


def test_clip_filter_suppress_rank():
    result = find()
    expected = torch.tensor([[0.0, 0.0, 5.0, 5.1], [0.0, 0.0, 10.0, 8.0], [1.0, 1.0, 2.0, 2.0]])
    torch.testing.assert_close(result.proposal_boxes.tensor, expected)
    torch.testing.assert_close(result.objectness_logits, torch.tensor([0.3, 0.2, 0.0]))
    assert result.image_size == (10, 10)


def test_limits():
    assert find(pre=2).objectness_logits.tolist() == pytest.approx([0.3])  # 0.4 is empty
    assert find(post=1).objectness_logits.tolist() == pytest.approx([0.3])
    assert find(min_size=1.0).objectness_logits.tolist() == pytest.approx([0.3, 0.2])


def test_levels_do_not_suppress_each_other():
    (result,) = find_top_rpn_proposals(
        [BOXES[:, :1], BOXES[:, 1:2]], [LOGITS[:, :1], LOGITS[:, 1:2]], [(10, 10)], 0.7, 5, 5, 0.0, False
    )
    assert len(result) == 2


def test_nothing_to_find():
    assert len(find(BOXES[:, :0], LOGITS[:, :0])) == 0
    assert len(find(min_size=50.0)) == 0
    assert find_top_rpn_proposals([BOXES[:0]], [LOGITS[:0]], [], 0.7, 5, 5, 0.0, False) == []


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_non_finite_predictions(bad):
    boxes, logits = BOXES.clone(), LOGITS.clone()
    boxes[0, 1, 0] = bad
    logits[0, 3] = bad
    with pytest.raises(FloatingPointError, match="diverged"):
        find(boxes, logits, training=True)
    assert find(boxes, logits).objectness_logits.tolist() == pytest.approx([0.1, 0.0])


def proposals(**fields):
    return Instances((10, 10), proposal_boxes=Boxes(torch.zeros(2, 4)), objectness_logits=torch.zeros(2), **fields)


def test_ground_truth_joins_with_a_certain_logit():
    gt = Instances((10, 10), gt_boxes=Boxes(torch.ones(1, 4)))
    for given in (gt, gt.gt_boxes):
        (result,) = add_ground_truth_to_proposals([given], [proposals()])
        assert result.proposal_boxes.tensor[2].tolist() == [1, 1, 1, 1]
        assert result.objectness_logits[2].item() == pytest.approx(23.0259, abs=1e-3)


def test_image_without_ground_truth():
    gt = Instances((10, 10), gt_boxes=Boxes(torch.zeros(0, 4)))
    assert len(add_ground_truth_to_proposals([gt], [proposals()])[0]) == 2
    assert add_ground_truth_to_proposals([], []) == []


def test_other_fields_come_from_the_ground_truth():
    gt = Instances((10, 10), gt_boxes=Boxes(torch.ones(1, 4)), gt_classes=torch.tensor([3]))
    (result,) = add_ground_truth_to_proposals([gt], [proposals(gt_classes=torch.tensor([0, 0]))])
    assert result.gt_classes.tolist() == [0, 0, 3]
    with pytest.raises(AssertionError, match="foo"):
        add_ground_truth_to_proposals([gt], [proposals(foo=torch.zeros(2))])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="0 images"):
        add_ground_truth_to_proposals([], [proposals()])
