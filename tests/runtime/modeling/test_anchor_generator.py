import pytest
import torch

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import (
    DefaultAnchorGenerator,
    RotatedAnchorGenerator,
    _broadcast_params,
    _create_grid_offsets,
    build_anchor_generator,
)


def make(sizes=((32, 64),), ratios=((0.25, 1.0, 4.0),), strides=(4,), offset=0.0):
    return DefaultAnchorGenerator(sizes=sizes, aspect_ratios=ratios, strides=strides, offset=offset)


def test_cell_anchors_by_hand():
    # Ratio is height / width: 0.25 of area 32^2 is 64 wide and 16 high.
    expected = [[-32, -8, 32, 8], [-16, -16, 16, 16], [-8, -32, 8, 32], [-64, -16, 64, 16], [-32, -32, 32, 32]]
    assert make().generate_cell_anchors((32, 64), (0.25, 1.0, 4.0))[:5].tolist() == expected


def test_cells_row_by_row_and_offset_in_strides():
    (anchors,) = make(sizes=[[4]], ratios=[[1.0]], strides=[8], offset=0.5)([torch.zeros(2, 3, 2, 3)])
    centers = anchors.get_centers().tolist()
    assert centers == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert anchors.tensor[0].tolist() == [2, 2, 6, 6]


def test_anchors_of_a_cell_lie_together():
    (anchors,) = make()([torch.zeros(1, 1, 1, 2)])
    assert anchors.tensor.shape == (12, 4)
    torch.testing.assert_close(anchors.tensor[6:], anchors.tensor[:6] + torch.tensor([4.0, 0.0, 4.0, 0.0]))


def test_anchors_stay_out_of_the_state_dict_and_follow_the_device():
    generator = make()
    assert generator.state_dict() == {}
    assert [name for name, _ in generator.named_buffers()] == ["cell_anchors.0"]
    assert len(generator.cell_anchors) == 1
    assert {anchors.device.type for anchors in generator.to("meta").cell_anchors} == {"meta"}


def test_number_of_anchors_per_level():
    generator = make(sizes=[[32], [64, 128]], ratios=[[1.0]], strides=[4, 8])
    assert generator.num_anchors == generator.num_cell_anchors == [1, 2]
    assert generator.box_dim == 4


def test_grid_offsets():
    shift_x, shift_y = _create_grid_offsets([2, 3], 4, 0.5, torch.zeros(1))
    assert shift_x.tolist() == [2, 6, 10, 2, 6, 10]
    assert shift_y.tolist() == [2, 2, 2, 6, 6, 6]


def test_parameters_are_shared_or_per_level():
    assert _broadcast_params([[1]], 3, "sizes") == [[1], [1], [1]]
    assert _broadcast_params([1, 2], 2, "sizes") == [[1, 2], [1, 2]]
    assert _broadcast_params([[1], [2]], 2, "sizes") == [[1], [2]]


@pytest.mark.parametrize(
    ("params", "message"),
    [(5, "has to be a list! Got 5"), ([], "cannot be empty"), ([[1], [2]], "length 2 .* features is 3")],
)
def test_bad_parameters(params, message):
    with pytest.raises(AssertionError, match=message):
        _broadcast_params(params, 3, "sizes")


def test_offset_must_lie_within_the_cell():
    with pytest.raises(AssertionError, match="offset"):
        make(offset=1.0)


def test_built_from_config():
    cfg = get_cfg()
    generator = build_anchor_generator(cfg, [ShapeSpec(channels=8, stride=16)])
    assert generator.num_anchors == [15]
    assert generator.strides == [16]


def test_rotated_anchors_say_what_to_do():
    with pytest.raises(NotImplementedError, match="RCNNKIT_ENGINE"):
        RotatedAnchorGenerator(sizes=[[32]], aspect_ratios=[[1.0]], strides=[4], angles=[[0]])
