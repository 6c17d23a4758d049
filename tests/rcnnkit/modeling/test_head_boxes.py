"""The boxes that heads are called with."""

import pytest
import torch

from detectron2.structures import Boxes, Instances
from rcnnkit.modeling.head_boxes import boxes_of, classes_of, draw_boxes, per_image


def numbered(*numbers: int) -> Instances:
    instances = Instances((4, 4))
    instances.gt_classes = torch.tensor(numbers, dtype=torch.int64)
    instances.proposal_boxes = Boxes(torch.zeros(len(numbers), 4))
    return instances


def test_boxes_are_drawn_with_their_features():
    instances = [numbered(0, 1, 2), numbered(), numbered(3, 4)]
    features = torch.arange(5.0)[:, None]
    seen = set()
    for _ in range(60):
        kept, drawn = draw_boxes(features, instances, 2)
        assert kept[:, 0].tolist() == classes_of(drawn).tolist() == sorted(kept[:, 0].tolist())
        assert len(kept) == 2 and len(drawn) == 3 and len(boxes_of(drawn)[1]) == 0
        seen |= set(kept[:, 0].tolist())
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("most", [0, 5, 6])
def test_all_boxes_are_kept_up_to_the_limit(most):
    instances, features = [numbered(0, 1, 2), numbered(3, 4)], torch.arange(5.0)
    kept, drawn = draw_boxes(features, instances, most)
    assert kept is features and drawn is instances


def test_feature_maps_stay_where_boxes_are_drawn():
    maps = {"p2": torch.zeros(1, 2, 3, 3)}
    kept, drawn = draw_boxes(maps, [numbered(0, 1, 2)], 1)
    assert kept is maps and len(drawn[0]) == 1


def test_values_go_to_the_boxes_of_their_image():
    instances = [numbered(0, 1), numbered(), numbered(2)]
    parts = per_image(torch.tensor([5.0, 6.0, 7.0]), instances)
    assert [part.tolist() for part in parts] == [[5.0, 6.0], [], [7.0]]
