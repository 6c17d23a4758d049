import numpy as np
import pytest
import torch

from detectron2.structures import Boxes, BoxMode, RotatedBoxes, pairwise_ioa, pairwise_iou, pairwise_point_box_distance
from detectron2.structures.boxes import matched_pairwise_iou


@pytest.mark.parametrize("container", [list, tuple, np.array, torch.tensor])
def test_convert_both_ways(container: type) -> None:
    nested = container in (np.array, torch.tensor)
    xyxy, xywh = ([[1.0, 2.0, 4.0, 6.0]], [[1.0, 2.0, 3.0, 4.0]]) if nested else ([1, 2, 4, 6], [1, 2, 3, 4])
    there = BoxMode.convert(container(xyxy), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    back = BoxMode.convert(there, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert np.asarray(there).tolist() == xywh
    assert np.asarray(back).tolist() == xyxy
    assert type(there) is type(container(xyxy))


def test_convert_rotated_by_a_right_angle() -> None:
    assert BoxMode.convert([50, 60, 30, 10, 90], BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS) == pytest.approx([45, 45, 55, 75])


def test_convert_rounds_lists_to_float32() -> None:
    # stock Detectron2's numbers; float64 sums would give 40.423456789 and 60.6
    assert BoxMode.convert([10.123456789, 20.2, 30.3, 40.4], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) == [
        10.123456954956055, 20.200000762939453, 40.42345428466797, 60.60000228881836
    ]  # fmt: skip
    assert BoxMode.convert((1, 2, 3, 4), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) == (1, 2, 4, 6)
    precise = BoxMode.convert(np.array([[0.1, 0.2, 0.3, 0.4]]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert precise.dtype == np.float64 and precise[0, 2] == 0.1 + 0.3


def test_convert_refuses() -> None:
    with pytest.raises(AssertionError, match="Relative"):
        BoxMode.convert([0, 0, 1, 1], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)
    with pytest.raises(NotImplementedError, match="XYXY_ABS to XYWHA_ABS"):
        BoxMode.convert([0, 0, 1, 1], BoxMode.XYXY_ABS, BoxMode.XYWHA_ABS)


def test_iou_and_ioa() -> None:
    # 10 x 10 and 5 x 5 inside it; a third apart.
    first, second = Boxes([[0, 0, 10, 10]]), Boxes([[5, 5, 10, 10], [20, 20, 30, 30]])
    assert pairwise_iou(first, second).tolist() == [[0.25, 0.0]]
    assert pairwise_ioa(first, second).tolist() == [[1.0, 0.0]]
    assert pairwise_iou(first[:0], second).shape == (0, 2)
    assert matched_pairwise_iou(first, second[:1]).tolist() == [0.25]


def test_point_distances() -> None:
    distances = pairwise_point_box_distance(torch.tensor([[1.0, 2.0]]), Boxes([[0, 0, 10, 20]]))
    assert distances.tolist() == [[[1.0, 2.0, 9.0, 18.0]]]


def test_clip_scale_nonempty() -> None:
    boxes = Boxes([[-3, 2, 30, 40], [12, 1, 15, 3]])
    boxes.clip((8, 9))
    assert boxes.tensor.tolist() == [[0, 2, 9, 8], [9, 1, 9, 3]]
    assert boxes.nonempty().tolist() == [True, False]
    boxes.scale(2, 0.5)
    assert boxes.tensor.tolist() == [[0, 1, 18, 4], [18, 0.5, 18, 1.5]]
    with pytest.raises(AssertionError, match="NaN"):
        Boxes([[0, 0, float("nan"), 1]]).clip((8, 9))


def test_indexing_and_cat() -> None:
    boxes = Boxes(torch.arange(12.0).view(3, 4))
    assert len(boxes[1]) == 1
    assert boxes[torch.tensor([True, False, True])].tensor[:, 0].tolist() == [0, 8]
    assert len(Boxes.cat([boxes, boxes])) == 6
    assert Boxes.cat([]).tensor.shape == (0, 4)
    with pytest.raises(AssertionError, match="matrix"):
        boxes[torch.tensor(1)]


def test_inside_box_excludes_the_far_border() -> None:
    boxes = Boxes([[0, 0, 10, 10]])
    assert boxes.inside_box((10, 10)).tolist() == [False]
    assert boxes.inside_box((10, 10), 1).tolist() == [True]


def test_rotated_boxes_say_so() -> None:
    with pytest.raises(NotImplementedError, match="RotatedBoxes"):
        RotatedBoxes(torch.zeros(0, 5))
