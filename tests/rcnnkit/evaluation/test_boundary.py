"""Boundary AP, by hand on squares, and beside the masks' own AP in the evaluator."""

import math

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from detectron2.structures import Boxes, Instances
from rcnnkit.evaluation.boundary import DILATION, METRICS, BoundaryCOCOEvaluator, boundary_ap
from rcnnkit.evaluation.mask_scores import MaskScoreCOCOEvaluator
from tests.rcnnkit.evaluation.test_mask_scores import NAME, square  # noqa: F401  (a fixture)

SIDE = 100  # of the images: 2 % of the diagonal of 141.4 are 3 pixels


def rectangle(left, top, right, bottom, side=SIDE):
    mask = np.zeros((side, side), dtype=np.uint8, order="F")
    mask[top:bottom, left:right] = 1
    runs = mask_util.encode(mask)
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def truth(*boxes, image_id="a.png"):
    outlines = [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in boxes]
    return {
        "images": [{"id": image_id, "height": SIDE, "width": SIDE, "file_name": "a.png"}],
        "categories": [{"id": 7, "name": "square"}],
        "annotations": [
            {
                "id": n,
                "image_id": image_id,
                "category_id": 7,
                "iscrowd": 0,
                "segmentation": [outline],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
            }
            for n, (outline, (x0, y0, x1, y1)) in enumerate(zip(outlines, boxes, strict=True), start=1)
        ],
    }


def result(*box, score=0.9, image_id="a.png"):
    return {"image_id": image_id, "category_id": 7, "score": score, "segmentation": rectangle(*box)}


def test_the_bands_decide_where_they_overlap_less_than_the_masks():
    """A square of 40 pixels, found 2 pixels too far to the right.

    Masks: 38·40 common of 2·1600 - 1520 = 1680, IoU 0.905: 9 of the 10 thresholds from 0.5 to 0.95.
    Bands of 3 pixels: each 1600 - 34² = 444. Common: of rows of the upper and lower band, 6 rows, 38 columns, 228; of
    the other 34 rows 1 column at the left (the third of one band is the first of the other) and 1 at the right, 68.
    IoU 296 / (888 - 296) = 0.5: one threshold.
    """
    data = truth((20, 20, 60, 60))
    values = boundary_ap(data, [result(22, 20, 62, 60)])
    assert values["AP50"] == pytest.approx(100) and values["AP75"] == 0 and values["AP"] == pytest.approx(10)
    assert values["APm"] == pytest.approx(10) and math.isnan(values["APs"]) and math.isnan(values["APl"])


def test_of_a_mask_smaller_than_its_band_the_mask_counts():
    """5 x 5 pixels are band only: 4·5 common of 30 are 0.667, thresholds 0.5 to 0.65: 4 of 10."""
    assert boundary_ap(truth((20, 20, 25, 25)), [result(21, 20, 26, 25)])["AP"] == pytest.approx(40)


def test_exact_masks_and_none():
    data = truth((20, 20, 60, 60), (70, 70, 90, 90))
    assert boundary_ap(data, [result(20, 20, 60, 60), result(70, 70, 90, 90)])["AP"] == pytest.approx(100)
    half = boundary_ap(data, [result(20, 20, 60, 60)])
    assert half["AP"] == pytest.approx(100 * 51 / 101)  # recall 0.5 is the 51st of the 101 points
    none = boundary_ap(data, [])
    assert set(none) == set(METRICS) and all(math.isnan(value) for value in none.values())


def test_a_result_is_as_large_as_its_mask_whatever_its_box():
    """Of squares of 40 pixels, medium ones, the better one is not there: at every recall half of what is found is true.

    Its box is large, as is the other's; by their area neither would count among the medium ones, and AP were 100.
    """
    data = truth((20, 20, 60, 60))
    found = [result(20, 20, 60, 60, score=0.8), result(60, 60, 100, 100, score=0.9)]
    values = boundary_ap(data, [{**one, "bbox": [0, 0, 100, 100]} for one in found])
    assert values["APm"] == pytest.approx(50) and math.isnan(values["APl"])
    assert values == pytest.approx(boundary_ap(data, found), nan_ok=True)


def test_classes_and_chosen_images():
    data = truth((20, 20, 60, 60))
    data["categories"].append({"id": 9, "name": "other"})
    data["images"].append({"id": "b.png", "height": SIDE, "width": SIDE, "file_name": "b.png"})
    data["annotations"].append({**data["annotations"][0], "id": 2, "image_id": "b.png", "category_id": 9})
    found = [result(20, 20, 60, 60)]
    values = boundary_ap(data, found, ["square", "other"])
    assert values["AP-square"] == pytest.approx(100) and values["AP-other"] == 0 and values["AP"] == pytest.approx(50)
    assert boundary_ap(data, found, ["square", "other"], img_ids=["a.png"])["AP"] == pytest.approx(100)


def band(mask, width):
    """The pixels of a mask with one outside of it, or of the image, within so many steps."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask - cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]


def test_iou_of_random_outlines():
    """One object an image: with the thresholds passed, AP tells in which twentieth the IoU lies."""
    rng = np.random.default_rng(0)
    width = round(DILATION * math.hypot(SIDE, SIDE))
    for _ in range(12):
        true, found = np.zeros((2, SIDE, SIDE), dtype=np.uint8)
        cv2.ellipse(true, (50, 50), (30, int(rng.integers(12, 30))), 20, 0, 360, 1, -1)
        cv2.ellipse(found, (50 + int(rng.integers(0, 2)), 50), (30, int(rng.integers(12, 30))), 20, 0, 360, 1, -1)
        ious = []
        for a, b in ((true, found), (band(true, width), band(found, width))):
            ious.append((a & b).sum() / (a | b).sum())
        passed = sum(min(ious) >= threshold for threshold in np.arange(0.5, 0.96, 0.05))
        data = truth((0, 0, 1, 1))
        runs = mask_util.encode(np.asfortranarray(true))
        data["annotations"][0].update(segmentation={**runs, "counts": runs["counts"].decode()}, area=int(true.sum()))
        runs = mask_util.encode(np.asfortranarray(found))
        prediction = {**result(0, 0, 1, 1), "segmentation": {**runs, "counts": runs["counts"].decode()}}
        assert boundary_ap(data, [prediction])["AP"] == pytest.approx(10 * passed)


@pytest.mark.parametrize("tasks", [None, ("segm",)])
def test_in_the_evaluator_it_is_a_task_beside_masks(square, tasks):  # noqa: F811
    """The mask of the better score, which mask_scores name, is exact."""
    found = Instances((40, 40))
    found.pred_boxes = Boxes(torch.tensor([[10.0, 10.0, 30.0, 30.0], [0.0, 0.0, 8.0, 8.0]]))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
    found.mask_scores = torch.tensor([0.1, 0.7])
    found.pred_masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    found.pred_masks[0, 30:, 30:] = True
    found.pred_masks[1, 10:30, 10:30] = True
    results = []
    for kind in (MaskScoreCOCOEvaluator, BoundaryCOCOEvaluator):
        evaluator = kind(NAME, tasks, distributed=False, output_dir=str(square / "output"))
        evaluator.reset()
        evaluator.process([{"image_id": 3}], [{"instances": found}])
        results.append(evaluator.evaluate())
    plain, both = results
    assert list(both) == [*plain, "boundary"]
    assert both["boundary"]["AP"] == pytest.approx(100)
    for task, values in plain.items():
        assert both[task] == pytest.approx(values, nan_ok=True)


def test_boxes_alone_have_no_boundary(square):  # noqa: F811
    evaluator = BoundaryCOCOEvaluator(NAME, ("bbox",), distributed=False, output_dir=str(square / "output"))
    evaluator.reset()
    found = Instances((40, 40))
    found.pred_boxes, found.scores = Boxes(torch.tensor([[10.0, 10.0, 30.0, 30.0]])), torch.tensor([0.9])
    found.pred_classes = torch.tensor([0])
    evaluator.process([{"image_id": 3}], [{"instances": found}])
    assert list(evaluator.evaluate()) == ["bbox"]
