"""Rows of classes by hand: kept by name, initialised where new, whatever the order."""

import pytest
import torch

from detectron2.config import get_cfg
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.engine.named_rows import NamedRows, build_named_rows, carry_all_rows, carry_rows, rows_of

OLD, NEW = ["nut", "bolt", "pin"], ["pin", "washer", "nut", "screw"]


def numbered(*shape: int, start: int = 0) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return torch.arange(start, start + count, dtype=torch.float32).reshape(shape)


def test_rows_by_hand_to_more_classes():
    rows = NamedRows("", others=1)
    stored, initial = torch.tensor([1.0, 2.0, 3.0, 9.0]), torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0])
    carried = carry_rows(stored, initial, rows, OLD, NEW)
    assert carried.tolist() == [3, 20, 1, 40, 9]
    assert initial.tolist() == [10, 20, 30, 40, 50]


def test_rows_by_hand_to_fewer_classes():
    stored, initial = numbered(4, 2), numbered(2, 2, start=100)
    carried = carry_rows(stored, initial, NamedRows(""), NEW, ["screw", "bolt"])
    assert carried.tolist() == [[6, 7], [102, 103]]


def test_several_rows_of_each_name():
    stored, initial = numbered(6), numbered(4, start=100)
    assert carry_rows(stored, initial, NamedRows("", per_name=2), OLD, ["new", "bolt"]).tolist() == [100, 101, 2, 3]


def test_along_another_dimension():
    stored, initial = numbered(2, 3), numbered(2, 2, start=100)
    carried = carry_rows(stored, initial, NamedRows("", dim=1), OLD, ["pin", "new"])
    assert carried.tolist() == [[2, 101], [5, 103]]


@pytest.mark.parametrize(
    ("stored", "initial"),
    [((4, 2), (4, 3)), ((3, 2), (5, 2)), ((5, 2), (5, 2)), ((4,), (5, 2)), ((1, 2), (1, 2))],
)
def test_other_shapes_are_left_alone(stored, initial):
    assert carry_rows(torch.zeros(stored), torch.zeros(initial), NamedRows("", others=1), OLD, NEW) is None


def test_what_has_no_names_or_the_same_ones_stays():
    rows = [NamedRows("a", others=1), NamedRows("p", "keypoints")]
    weights, state = {"a": numbered(4), "b": numbered(4), "p": numbered(2)}, {"a": -numbered(5), "p": -numbered(2)}
    expected = {key: value.clone() for key, value in weights.items()}
    for old, new in (({}, {"classes": NEW}), ({"classes": OLD}, {}), ({"classes": OLD}, {"classes": OLD})):
        assert carry_all_rows(weights, state, rows, old, new) == []
        assert all(torch.equal(weights[key], value) for key, value in expected.items())
    changes = carry_all_rows(weights, state, rows, {"classes": OLD}, {"classes": NEW})
    assert [(c.key, c.kept, c.fresh, c.dropped) for c in changes] == [
        ("a", ["pin", "nut"], ["washer", "screw"], ["bolt"])
    ]
    assert weights["a"].tolist() == [2, -1, 0, -3, 3] and torch.equal(weights["p"], expected["p"])


def test_another_order_moves_the_rows_and_changes_nothing_else():
    weights, state = {"a": numbered(4)}, {"a": torch.zeros(4)}
    assert carry_all_rows(weights, state, [NamedRows("a", others=1)], {"classes": OLD}, {"classes": OLD[::-1]}) == []
    assert weights["a"].tolist() == [2, 1, 0, 3]


def test_heads_without_classes_have_no_such_rows():
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    boxes, masks = "roi_heads.box_predictor.bbox_pred.bias", "roi_heads.mask_head.predictor.weight"
    assert rows_of(boxes, build_named_rows(cfg)).per_name == 4 and rows_of(masks, build_named_rows(cfg))
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    assert rows_of(boxes, build_named_rows(cfg)) is rows_of(masks, build_named_rows(cfg)) is None
    assert rows_of("roi_heads.box_predictor.1.cls_score.weight", build_named_rows(cfg)).others == 1


def test_rows_of_every_anchor():
    stored, initial = numbered(6), numbered(8, start=100)  # two anchors of three classes, of four
    carried = carry_rows(stored, initial, NamedRows("", repeated=True), OLD, NEW)
    assert carried.tolist() == [2, 101, 0, 103, 5, 105, 3, 107]
    for shapes in ((6, 12), (7, 8), (6, 9)):  # another number of anchors, and none
        assert carry_rows(*map(torch.zeros, shapes), NamedRows("", repeated=True), OLD, NEW) is None


def test_rows_of_another_number_of_anchors_start_afresh_where_the_shape_is_the_same():
    stored, initial = numbered(6), numbered(6, start=100)  # three anchors of two classes, two of three
    weights, names = {"a": stored}, {"classes": ["pin", "nut"]}
    changes = carry_all_rows(weights, {"a": initial}, [NamedRows("a", repeated=True)], names, {"classes": OLD})
    assert [(c.kept, c.fresh, c.dropped) for c in changes] == [([], OLD, ["pin", "nut"])]
    assert torch.equal(weights["a"], initial) and weights["a"] is not initial
    agnostic = {"a": numbered(4)}  # boxes of no class, to a model of one class: its rows as they are
    assert carry_all_rows(agnostic, {"a": -numbered(4)}, [NamedRows("a", per_name=4)], names, {"classes": ["a"]}) == []
    assert torch.equal(agnostic["a"], numbered(4))
