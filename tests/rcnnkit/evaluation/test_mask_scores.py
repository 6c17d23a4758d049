"""Masks ranked by scores of their own: boxes are evaluated as before."""

import json

import pytest
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from rcnnkit.evaluation.mask_scores import MaskScoreCOCOEvaluator, by_mask_score

NAME = "one_square_with_category_7"


@pytest.fixture
def square(tmp_path):
    """One object, a square of 20 pixels, of a class that has the id 7 in the file."""
    outline = [10, 10, 30, 10, 30, 30, 10, 30]
    one = {"id": 1, "image_id": 3, "category_id": 7, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    file = tmp_path / "square.json"
    file.write_text(
        json.dumps(
            {
                "images": [{"id": 3, "height": 40, "width": 40, "file_name": "a.png"}],
                "annotations": [{**one, "segmentation": [outline]}],
                "categories": [{"id": 7, "name": "square"}],
            }
        )
    )
    DatasetCatalog.register(NAME, list)
    MetadataCatalog.get(NAME).set(
        json_file=str(file),
        image_root=str(tmp_path),
        evaluator_type="coco",
        thing_classes=["square"],
        thing_dataset_id_to_contiguous_id={7: 0},
    )
    yield tmp_path
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def evaluated(kind, folder, mask_scores, tasks=None):
    """Two detections of the square, boxes exact and beside it; masks beside it and exact."""
    evaluator = kind(NAME, tasks, distributed=False, output_dir=str(folder / "output"))
    evaluator.reset()
    found = Instances((40, 40))
    found.pred_boxes = Boxes(torch.tensor([[10.0, 10.0, 30.0, 30.0], [0.0, 0.0, 8.0, 8.0]]))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
    found.pred_masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    found.pred_masks[0, 30:, 30:] = True
    found.pred_masks[1, 10:30, 10:30] = True
    if mask_scores is not None:
        found.mask_scores = torch.tensor(mask_scores)
    evaluator.process([{"image_id": 3}], [{"instances": found}])
    results = evaluator.evaluate()
    return results, json.loads((folder / "output" / "coco_instances_results.json").read_text())


def test_masks_by_their_own_scores_and_boxes_by_theirs(square):
    plain, _ = evaluated(COCOEvaluator, square, None)
    # the mask that is right comes second: precision 1/2 at every recall
    assert plain["bbox"]["AP"] == pytest.approx(100) and plain["segm"]["AP"] == pytest.approx(50)
    results, file = evaluated(MaskScoreCOCOEvaluator, square, [0.1, 0.7])
    assert results["bbox"] == pytest.approx(plain["bbox"], nan_ok=True)
    assert results["segm"]["AP"] == pytest.approx(100)
    assert list(results) == list(plain)
    assert [one["score"] for one in file] == pytest.approx([0.9, 0.8])
    assert [one["mask_score"] for one in file] == pytest.approx([0.1, 0.7])
    assert {one["category_id"] for one in file} == {7}


def test_without_mask_scores_it_is_the_evaluator_of_detectron2(square):
    results, file = evaluated(MaskScoreCOCOEvaluator, square, None)
    expected, as_before = evaluated(COCOEvaluator, square, None)
    assert list(results) == list(expected) and file == as_before
    for task, values in expected.items():
        assert results[task] == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize(("tasks", "ap"), [(("segm",), 100), (("bbox",), 100)])
def test_one_task_alone(square, tasks, ap):
    results, _ = evaluated(MaskScoreCOCOEvaluator, square, [0.1, 0.7], tasks)
    assert list(results) == list(tasks) and results[tasks[0]]["AP"] == pytest.approx(ap)


def test_the_predictions_that_come_in_stay():
    predictions = [{"image_id": 1, "instances": [{"score": 0.5, "mask_score": 0.2}, {"score": 0.4}]}]
    assert by_mask_score(predictions)[0]["instances"][0]["score"] == 0.2
    assert by_mask_score(predictions)[0]["instances"][1]["score"] == 0.4
    assert predictions[0]["instances"][0]["score"] == 0.5
