"""Box pooling: level assignment by hand-worked sizes, order kept, empty input."""

import pytest
import torch
from torchvision.ops import roi_align

from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels, convert_boxes_to_pooler_format
from detectron2.structures import Boxes


def squares(*sides: float) -> Boxes:
    return Boxes(torch.tensor([[0.0, 0.0, side, side] for side in sides]))


def test_levels_follow_the_fpn_paper():
    # level 4 holds sides from 224 up to 448, each level below half of that; beyond the ends they are clamped
    boxes = [squares(0.0, 10.0, 111.9, 112.0), squares(223.9, 224.0, 447.9, 448.0, 5000.0)]
    levels = assign_boxes_to_levels(boxes, min_level=2, max_level=5, canonical_box_size=224, canonical_level=4)
    assert levels.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert levels.dtype == torch.int64


def test_pooler_format_names_the_image():
    rows = convert_boxes_to_pooler_format([squares(1.0), Boxes(torch.zeros(0, 4)), squares(2.0, 3.0)])
    assert rows.tolist() == [[0, 0, 0, 1, 1], [2, 0, 0, 2, 2], [2, 0, 0, 3, 3]]


def test_mean_of_a_constant_map_and_order_across_levels():
    # each level's map is constant, so the pooled value tells the level; interior boxes see no border
    features = [torch.full((1, 2, 512 // stride, 512 // stride), float(stride)) for stride in (4, 8, 16, 32)]
    pooler = ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], sampling_ratio=0, pooler_type="ROIAlignV2")
    boxes = torch.tensor([[10.0, 10, 460, 460], [10, 10, 40, 40], [10, 10, 250, 250], [10, 10, 130, 130]])
    pooled = pooler(features, [Boxes(boxes)])
    with torch.no_grad():  # another way of putting the levels together
        assert torch.equal(pooler(features, [Boxes(boxes)]), pooled)
    assert pooled.shape == (4, 2, 7, 7)
    torch.testing.assert_close(pooled[:, 0, 3, 3], torch.tensor([32.0, 4.0, 16.0, 8.0]))


@pytest.mark.parametrize(("pooler_type", "aligned"), [("ROIAlign", False), ("ROIAlignV2", True)])
def test_alignment(pooler_type, aligned):
    feature = torch.arange(64.0).view(1, 1, 8, 8)
    boxes = torch.tensor([[1.0, 2.0, 5.0, 7.0]])
    pooled = ROIPooler(2, [1.0], 2, pooler_type)([feature], [Boxes(boxes)])
    torch.testing.assert_close(pooled, roi_align(feature, [boxes], 2, 1.0, 2, aligned))


def test_roi_pool_takes_the_maximum():
    feature = torch.arange(16.0).view(1, 1, 4, 4)
    pooled = ROIPooler(1, [1.0], 0, "ROIPool")([feature], [Boxes(torch.tensor([[0.0, 0.0, 3.0, 3.0]]))])
    assert pooled.item() == 15.0


@pytest.mark.parametrize("scales", [[1 / 4, 1 / 8], [1 / 4]])
def test_no_boxes_keep_the_graph(scales):
    features = [torch.randn(2, 3, 8, 8, requires_grad=True) for _ in scales]
    pooled = ROIPooler(7, scales, 0, "ROIAlignV2")(features, [Boxes(torch.zeros(0, 4))] * 2)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert all(feature.grad is not None and not feature.grad.any() for feature in features)


def test_gradient_reaches_each_level_from_its_own_boxes():
    features = [torch.randn(1, 1, 64, 64, requires_grad=True), torch.randn(1, 1, 32, 32, requires_grad=True)]
    pooler = ROIPooler(2, [1 / 4, 1 / 8], 2, "ROIAlignV2")
    pooled = pooler(features, [Boxes(torch.tensor([[20.0, 20, 180, 180], [20, 20, 40, 40]]))])
    pooled[0].sum().backward()
    assert not features[0].grad.any()
    # the four bins of box 0 each average the second level: their weights sum to one each
    assert features[1].grad.sum().item() == pytest.approx(4.0, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([7, 7, 7], [1 / 4], 0, "ROIAlign"), "output_size"),
        ((7, [1 / 4, 1 / 16], 0, "ROIAlign"), "double"),
        ((7, [1 / 6], 0, "ROIAlign"), "power of two"),
        ((7, [1 / 4], 0, "RoiAlign"), "known: ROIAlign"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ROIPooler(*arguments)


def test_rotated_boxes_are_refused():
    with pytest.raises(NotImplementedError, match="ROIAlignRotated"):
        ROIPooler(7, [1 / 4], 0, "ROIAlignRotated")


def test_boxes_of_another_number_of_images_are_refused():
    with pytest.raises(ValueError, match="2 images, but boxes of 1"):
        ROIPooler(7, [1 / 4], 0, "ROIAlign")([torch.zeros(2, 1, 4, 4)], [squares(3.0)])
