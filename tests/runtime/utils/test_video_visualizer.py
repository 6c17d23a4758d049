"""Objects keep their colours over the frames of a drawn sequence."""

import numpy as np
import pytest
import torch

from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode

FRAME = np.full((120, 160, 3), 100, np.uint8)
LEFT, RIGHT = [10, 10, 50, 50], [90, 40, 150, 100]


@pytest.fixture
def visualizer():
    metadata = Metadata()
    metadata.thing_classes = ["car", "van"]
    return VideoVisualizer(metadata)


def objects(boxes, classes, masks=False, **fields):
    found = Instances((120, 160), pred_boxes=Boxes(torch.tensor(boxes).float().reshape(-1, 4)))
    found.pred_classes = torch.tensor(classes, dtype=torch.long)
    found.scores = torch.full((len(classes),), 0.9)
    if masks:
        found.pred_masks = torch.zeros(len(classes), 120, 160, dtype=torch.bool)
        for index, (x0, y0, x1, y1) in enumerate(boxes):
            found.pred_masks[index, y0:y1, x0:x1] = True
    for name, value in fields.items():
        found.set(name, value)
    return found


def moved(box, by):
    return [box[0] + by, box[1], box[2] + by, box[3]]


def test_colors_follow_moving_objects_in_any_order(visualizer):
    left, right = visualizer._assign_colors(objects([LEFT, RIGHT], [0, 1]))
    again = visualizer._assign_colors(objects([moved(RIGHT, 5), moved(LEFT, 5)], [1, 0]))
    assert np.array_equal(again[0], right) and np.array_equal(again[1], left)


def test_far_moves_and_other_classes_are_new_objects(visualizer):
    visualizer._assign_colors(objects([LEFT], [0]))
    # 40 wide, moved by 10: IoU 30/50, not above 0.6
    visualizer._assign_colors(objects([moved(LEFT, 10)], [0]))
    assert [old.ttl for old in visualizer._old_instances] == [8, 7]
    visualizer._assign_colors(objects([moved(LEFT, 10)], [1]))
    assert [(old.label, old.ttl) for old in visualizer._old_instances] == [(1, 8), (0, 7), (0, 6)]


def test_an_object_is_remembered_for_eight_frames(visualizer):
    color = visualizer._assign_colors(objects([LEFT], [0]))[0]
    for _ in range(7):
        visualizer._assign_colors(objects([RIGHT], [0]))
    assert np.array_equal(visualizer._assign_colors(objects([LEFT], [0]))[0], color)
    for _ in range(8):
        visualizer._assign_colors(objects([RIGHT], [0]))
    assert len(visualizer._old_instances) == 1


def test_masks_alone_are_matched_too(visualizer):
    first, second = objects([LEFT], [0], masks=True), objects([moved(LEFT, 5)], [0], masks=True)
    for frame in (first, second):
        frame.remove("pred_boxes")
    color = visualizer._assign_colors(first)[0]
    assert visualizer._old_instances[0].mask_rle is not None
    assert np.array_equal(visualizer._assign_colors(second)[0], color)


def test_ids_keep_colors_and_the_longest_unseen_gives_its_color_back(visualizer):
    visualizer._color_idx_set = {0, 1}
    one, two = visualizer._assign_colors_by_id(objects([LEFT, RIGHT], [0, 1], ID=[7, 9]))
    assert not np.array_equal(one, two)
    assert np.array_equal(visualizer._assign_colors_by_id(objects([RIGHT], [0], ID=[9]))[0], two)
    third = visualizer._assign_colors_by_id(objects([RIGHT], [0], ID=[11]))[0]
    assert np.array_equal(third, one) and set(visualizer._assigned_colors) == {9, 11}


@pytest.mark.parametrize("fields", [{}, {"ID": [3, 4]}, {"COLOR": [np.array([1.0, 0, 0]), np.array([0, 0, 1.0])]}])
def test_frames_are_drawn(visualizer, fields):
    picture = visualizer.draw_instance_predictions(
        FRAME, objects([LEFT, RIGHT], [0, 1], masks=True, **fields)
    ).get_image()
    assert picture.shape == FRAME.shape
    assert (picture[60:90, 100:140] != 100).any(axis=2).mean() > 0.9  # inside the right object
    assert (picture[105:, :80] == 100).all()  # away from both
    if "COLOR" in fields:
        assert picture[45, 30, 0] > picture[45, 30, 2] and picture[95, 120, 2] > picture[95, 120, 0]


def test_an_empty_frame_and_grey_surroundings(visualizer):
    assert np.array_equal(visualizer.draw_instance_predictions(FRAME, objects([], [])).get_image(), FRAME)
    grey = VideoVisualizer(visualizer.metadata, ColorMode.IMAGE_BW)
    colored = np.zeros_like(FRAME)
    colored[..., 0] = 200
    picture = grey.draw_instance_predictions(colored, objects([LEFT], [0], masks=True)).get_image()
    assert np.ptp(picture[110, 140]) == 0
    with pytest.raises(AssertionError, match="not supported for videos"):
        VideoVisualizer(visualizer.metadata, ColorMode.SEGMENTATION)
