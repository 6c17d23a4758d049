"""Objects from records, results and instances, and what of them shows in the drawn picture."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from detectron2.structures import Boxes, BoxMode, Instances
from rcnnkit.inference.drawing import (
    PALETTE,
    DrawnObject,
    contact_sheet,
    draw_objects,
    objects_of_instances,
    objects_of_record,
    objects_of_results,
    side_by_side,
)

SQUARE = np.zeros((20, 30), bool)
SQUARE[5:15, 8:20] = True


def _rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_record_gives_absolute_corners_masks_and_keypoints():
    annotation = {
        "bbox": [8, 5, 12, 10],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 1,
        "segmentation": [[8, 5, 20, 5, 20, 15, 8, 15]],
        "keypoints": [9, 6, 2, 0, 0, 0],
    }
    (drawn,) = objects_of_record({"height": 20, "width": 30, "annotations": [annotation]})
    assert drawn.box == (8, 5, 20, 15) and drawn.score is None and drawn.category == 1
    assert drawn.mask.sum() == SQUARE.sum() and (drawn.mask == SQUARE).all()
    assert drawn.keypoints.tolist() == [[9, 6, 2], [0, 0, 0]]


@pytest.mark.parametrize("compressed", [True, False])
def test_record_with_rle(compressed):
    rle = _rle(SQUARE)
    if not compressed:
        flat = SQUARE.ravel(order="F").astype(int)
        edges = np.flatnonzero(np.diff(flat)) + 1
        rle = {"size": [20, 30], "counts": np.diff([0, *edges, flat.size]).tolist()}
    annotation = {"bbox": [8, 5, 20, 15], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "segmentation": rle}
    (drawn,) = objects_of_record({"height": 20, "width": 30, "annotations": [annotation]})
    assert (drawn.mask == SQUARE).all()


def test_record_without_objects():
    assert objects_of_record({"height": 20, "width": 30, "annotations": []}) == []


def test_results_above_the_threshold_surest_last():
    results = [
        {"category_id": 7, "score": 0.9, "bbox": [8, 5, 12, 10], "segmentation": _rle(SQUARE)},
        {"category_id": 7, "score": 0.4, "bbox": [0, 0, 1, 1]},
        {"category_id": 3, "score": 0.5, "bbox": [1, 2, 3, 4], "keypoints": [1.5, 2.5, 0.7]},
    ]
    low, high = objects_of_results(results, {7: 0, 3: 1}, 20, 30)
    assert (low.category, low.score, low.box) == (1, 0.5, (1, 2, 4, 6))
    assert low.keypoints.tolist() == [[2.0, 3.0, 0.7]], "COCO's results count from pixel centres"
    assert high.score == 0.9 and (high.mask == SQUARE).all()


def test_instances_of_a_model():
    instances = Instances((20, 30))
    instances.pred_boxes = Boxes(torch.tensor([[8.0, 5, 20, 15], [0, 0, 4, 4], [1, 1, 2, 2]]))
    instances.scores = torch.tensor([0.9, 0.6, 0.1])
    instances.pred_classes = torch.tensor([1, 0, 2])
    instances.pred_masks = torch.from_numpy(np.stack([SQUARE] * 3))
    assert [(drawn.category, drawn.box) for drawn in objects_of_instances(instances)] == [
        (0, (0, 0, 4, 4)),
        (1, (8, 5, 20, 15)),
    ]
    assert objects_of_instances(instances[torch.tensor([], dtype=torch.long)]) == []


def test_drawing_colours_the_mask_and_leaves_the_rest():
    picture = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[30:50, 40:70] = True
    drawn = draw_objects(picture, [DrawnObject(0, (40, 30, 70, 50), 0.93, mask)], ["disc"], scale=2)
    assert drawn.shape == (120, 160, 3) and (picture == 100).all()
    expected = np.rint(100 * 0.65 + np.array(PALETTE[0]) * 0.35)
    np.testing.assert_array_equal(drawn[90, 120], expected)
    assert (drawn[:40, :60] == 100).all()


def test_keypoints_only_of_the_classes_that_have_them():
    picture = np.zeros((40, 40, 3), np.uint8)
    keypoints = np.array([[20.0, 30.0, 2.0], [30.0, 30.0, 0.0]])
    objects = [DrawnObject(1, (5, 20, 35, 38), None, None, keypoints)]
    seen = draw_objects(picture, objects, ["a", "b"], scale=1, keypoint_classes=[1])
    assert (seen[30, 20] > 200).all() and (seen[30, 30] == 0).all(), "an unlabelled keypoint is not drawn"
    assert (draw_objects(picture, objects, ["a", "b"], scale=1, keypoint_classes=[0])[30, 20] == 0).all()


def test_a_predicted_keypoint_that_the_class_does_not_have_is_not_drawn():
    picture = np.zeros((40, 60, 3), np.uint8)
    found = [DrawnObject(0, (5, 20, 35, 38), 0.9, None, np.array([[15.0, 30.0, 0.01], [28.0, 30.0, 0.0]]))]
    seen = draw_objects(picture, found, ["a"], scale=1)
    assert (seen[30, 15] > 200).all() and (seen[30, 28] == 0).all()


def test_nothing_to_draw_enlarges_only():
    picture = np.full((10, 10, 3), 7, np.uint8)
    assert (draw_objects(picture, [], [], scale=3) == 7).all()


def test_side_by_side_and_sheet_sizes():
    panel = np.zeros((50, 40, 3), np.uint8)
    assert side_by_side([panel, panel], ["truth", "prediction"], gap=8).shape == (76, 88, 3)
    sheet = contact_sheet([panel] * 5, columns=3, gap=6)
    assert sheet.shape == (106, 132, 3)
    assert (sheet[56:, 92:] == 255).all(), "the last row is short"
