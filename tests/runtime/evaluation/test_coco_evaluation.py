import copy
import json
import math
import pickle

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.box_proposals import _evaluate_box_proposals, _greedy_overlaps
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, BoxMode, Instances

from .detections import coco_from_dict

NAME = "evaluation_test"
BOXES = [[10.0, 10.0, 20.0, 20.0], [50.0, 40.0, 30.0, 40.0], [5.0, 60.0, 30.0, 30.0]]


@pytest.fixture
def dataset(tmp_path):
    """Two images; 1 has a 'cat' (id 3) and a 'dog' (id 7), 2 has a 'dog'; there is no 'cow' (id 9)."""
    keypoints = [20, 20, 2, 25, 25, 1]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": BOXES[0], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 7, "bbox": BOXES[1], "area": 1200, "iscrowd": 0},
        {"id": 3, "image_id": 2, "category_id": 7, "bbox": BOXES[2], "area": 900, "iscrowd": 0},
    ]
    for annotation in annotations:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotation.update(keypoints=keypoints, num_keypoints=2)
    content = {
        "images": [{"id": i, "height": 100, "width": 100, "file_name": f"{i}.png"} for i in (1, 2)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "cow"}],
    }
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(content))
    MetadataCatalog.get(NAME).set(
        json_file=str(path), thing_classes=["cat", "dog", "cow"], thing_dataset_id_to_contiguous_id={3: 0, 7: 1, 9: 2}
    )
    yield content
    MetadataCatalog.pop(NAME)


def _instances(boxes, classes, scores=None, masks=False, keypoints=False):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(boxes + torch.cat([torch.zeros(len(boxes), 2), boxes[:, :2]], dim=1))
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    instances.scores = torch.linspace(0.9, 0.5, len(boxes)) if scores is None else torch.tensor(scores)
    if masks:
        bitmap = torch.zeros(len(boxes), 100, 100, dtype=torch.bool)
        for mask, (x, y, w, h) in zip(bitmap, boxes.int().tolist()):
            mask[y : y + h, x : x + w] = True
        instances.pred_masks = bitmap
    if keypoints:
        instances.pred_keypoints = torch.tensor([[[20.5, 20.5, 0.9], [25.5, 25.5, 0.8]]]).repeat(len(boxes), 1, 1)
    return instances


def _run(evaluator, per_image, key="instances"):
    evaluator.reset()
    for image_id, instances in per_image.items():
        evaluator.process([{"image_id": image_id}], [{key: instances}])
    return evaluator.evaluate()


@pytest.mark.parametrize("fast", [True, False])
def test_perfect_predictions_and_files(dataset, tmp_path, fast):
    output_dir = tmp_path / "inference"
    evaluator = COCOEvaluator(
        NAME, distributed=False, output_dir=str(output_dir), use_fast_impl=fast, kpt_oks_sigmas=[0.1, 0.1]
    )
    results = _run(
        evaluator,
        {
            1: _instances(BOXES[:2], [0, 1], masks=True, keypoints=True),
            2: _instances(BOXES[2:], [1], masks=True, keypoints=True),
        },
    )
    assert list(results) == ["bbox", "keypoints", "segm"]
    detection_keys = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AP-cat", "AP-dog", "AP-cow"]
    assert list(results["bbox"]) == list(results["segm"]) == detection_keys
    assert list(results["keypoints"]) == ["AP", "AP50", "AP75", "APm", "APl", "AP-cat", "AP-dog", "AP-cow"]
    for task in ("bbox", "segm"):
        for key in ("AP", "AP50", "APs", "APm", "AP-cat", "AP-dog"):
            assert results[task][key] == pytest.approx(100.0)
        assert math.isnan(results[task]["APl"])
        assert math.isnan(results[task]["AP-cow"])
    assert results["keypoints"]["AP"] == pytest.approx(100.0)

    assert sorted(path.name for path in output_dir.iterdir()) == [
        "coco_instances_results.json",
        "instances_predictions.pth",
    ]
    written = json.loads((output_dir / "coco_instances_results.json").read_text())
    assert [row["category_id"] for row in written] == [3, 7, 7]
    assert written[0]["bbox"] == BOXES[0]
    saved = torch.load(output_dir / "instances_predictions.pth", weights_only=True)
    assert [row["image_id"] for row in saved] == [1, 2]
    assert [row["category_id"] for row in saved[0]["instances"]] == [0, 1]


def test_hand_worked_average_precision(dataset):
    # dog: two objects; a false alarm at 0.9, a hit at 0.8, the other object is missed. Precision is 1/2 up to recall
    # 1/2, that is at 51 of the 101 recall points. cat: missed altogether, AP 0.
    results = _run(
        COCOEvaluator(NAME, distributed=False),
        {1: _instances([[70, 5, 10, 10], BOXES[1]], [1, 1], [0.9, 0.8]), 2: _instances([], [])},
    )
    assert list(results) == ["bbox"]
    assert results["bbox"]["AP-dog"] == pytest.approx(100 * 0.5 * 51 / 101)
    assert results["bbox"]["AP-cat"] == 0.0
    assert results["bbox"]["AP"] == pytest.approx(100 * 0.5 * 51 / 101 / 2)


def test_evaluating_twice_gives_the_same(dataset):
    evaluator = COCOEvaluator(NAME, distributed=False)
    first = _run(evaluator, {1: _instances(BOXES[:2], [0, 1]), 2: _instances(BOXES[2:], [1])})
    assert evaluator.evaluate()["bbox"] == pytest.approx(first["bbox"], nan_ok=True)
    only_second = evaluator.evaluate(img_ids=[2])
    assert math.isnan(only_second["bbox"]["AP-cat"])


def test_no_predictions(dataset):
    evaluator = COCOEvaluator(NAME, distributed=False)
    assert _run(evaluator, {}) == {}
    results = _run(evaluator, {1: _instances([], [])})
    assert list(results["bbox"]) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert all(math.isnan(value) for value in results["bbox"].values())


def test_annotations_missing_writes_results_only(dataset, tmp_path):
    metadata = MetadataCatalog.get(NAME)
    content = {key: value for key, value in dataset.items() if key != "annotations"}
    path = tmp_path / "test.json"
    path.write_text(json.dumps(content))
    MetadataCatalog.pop(NAME)
    MetadataCatalog.get(NAME).set(
        json_file=str(path), thing_dataset_id_to_contiguous_id=metadata.thing_dataset_id_to_contiguous_id
    )
    evaluator = COCOEvaluator(NAME, distributed=False, output_dir=str(tmp_path / "out"))
    assert _run(evaluator, {1: _instances(BOXES[:1], [0])}) == {}
    assert (tmp_path / "out" / "coco_instances_results.json").is_file()


def test_failed_write_leaves_nothing(dataset, tmp_path):
    evaluator = COCOEvaluator(NAME, distributed=False, output_dir=str(tmp_path / "out"))
    evaluator.reset()
    evaluator._predictions = [{"image_id": 1, "instances": [{"category_id": 0, "broken": object(), "image_id": 1}]}]
    with pytest.raises(TypeError):
        evaluator.evaluate()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["instances_predictions.pth"]


@pytest.mark.parametrize(
    ("kwargs", "per_image", "message"),
    [
        ({}, {1: _instances(BOXES[:1], [3])}, r"image 1: .* class 3, .*0 to 2 .*\[3, 7, 9\]"),
        ({}, {1: _instances(BOXES[:1], [-1])}, r"class -1,"),
        ({}, {55: _instances(BOXES[:1], [0])}, r"image_id=55"),
        ({"tasks": ("segm",)}, {1: _instances(BOXES[:1], [0])}, r"'segm' needs .*'segmentation'"),
        ({"tasks": ("box",)}, {1: _instances(BOXES[:1], [0])}, r"unknown task 'box'.*bbox"),
        ({}, {1: _instances(BOXES[:1], [0], keypoints=True)}, r"2 keypoints.*2 keypoints.*SIGMAS is 17"),
    ],
)
def test_mismatches_are_named(dataset, kwargs, per_image, message):
    evaluator = COCOEvaluator(NAME, distributed=False, **kwargs)
    with pytest.raises(ValueError, match=message) as error:
        _run(evaluator, per_image)
    assert "\n" not in str(error.value)


def test_dataset_without_json_is_converted(tmp_path):
    name = "evaluation_test_converted"
    record = {"file_name": "a.png", "image_id": 5, "height": 100, "width": 100}
    annotation = {"bbox": [10, 10, 30, 30], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    DatasetCatalog.register(name, lambda: [{**record, "annotations": [dict(annotation)]}])
    MetadataCatalog.get(name).thing_classes = ["thing"]
    try:
        with pytest.raises(ValueError, match="output_dir must be provided"):
            COCOEvaluator(name, distributed=False)
        evaluator = COCOEvaluator(name, distributed=False, output_dir=str(tmp_path))
        assert (tmp_path / f"{name}_coco_format.json").is_file()
        results = _run(evaluator, {5: _instances([[10, 10, 20, 20]], [0])})
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results["bbox"]["AP"] == pytest.approx(100.0)
    assert list(results["bbox"]) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def test_instances_to_coco_json_by_hand():
    instances = _instances([[1.0, 2.0, 2.0, 2.5]], [1], [0.5])
    instances.pred_masks = torch.ones(1, 100, 100, dtype=torch.bool)
    instances.pred_keypoints = torch.tensor([[[1.0, 2.0, 0.25], [3.0, 4.0, 0.125]]])
    before = copy.deepcopy(instances.pred_keypoints)
    (row,) = instances_to_coco_json(instances, 7)
    assert list(row) == ["image_id", "category_id", "bbox", "score", "segmentation", "keypoints"]
    assert row["bbox"] == [1.0, 2.0, 2.0, 2.5]
    assert row["keypoints"] == [0.5, 1.5, 0.25, 2.5, 3.5, 0.125]
    assert isinstance(row["segmentation"]["counts"], str)
    assert torch.equal(instances.pred_keypoints, before)
    assert instances_to_coco_json(instances[:0], 7) == []


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (37, 53)])
def test_masks_are_encoded_as_by_pycocotools(density, size):
    masks = torch.rand(300, *size) < density
    masks[::3, :, : size[1] // 2] = True  # whole columns: runs that go on in the next one
    masks[1::3, : size[0] // 2] = False
    instances = _instances([[0.0, 0.0, 1.0, 1.0]] * 300, [0] * 300)
    instances.pred_masks = masks
    for row, mask in zip(instances_to_coco_json(instances, 1), masks.numpy()):
        expected = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert row["segmentation"] == {"size": list(size), "counts": expected["counts"].decode()}


def test_greedy_overlaps_by_hand():
    iou = torch.tensor([[0.9, 0.8], [0.85, 0.1]])
    # 0.9 is taken first, with proposal 0 and box 0; what is left for box 1 is proposal 1.
    assert torch.allclose(_greedy_overlaps(iou), torch.tensor([0.9, 0.1]))
    assert torch.equal(_greedy_overlaps(torch.zeros(0, 2)), torch.zeros(2))


def _proposals(boxes):
    proposals = Instances((100, 100))
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    proposals.proposal_boxes = Boxes(boxes + torch.cat([torch.zeros(len(boxes), 2), boxes[:, :2]], dim=1))
    proposals.objectness_logits = torch.linspace(3, 1, len(boxes))
    return proposals


def test_proposal_recall(dataset, tmp_path):
    evaluator = COCOEvaluator(NAME, distributed=False, output_dir=str(tmp_path / "out"))
    results = _run(evaluator, {1: _proposals(BOXES[:1]), 2: _proposals(BOXES[2:])}, key="proposals")
    sizes = ["", "s", "m", "l"]
    assert list(results["box_proposals"]) == [f"AR{size}@{limit}" for limit in (100, 1000) for size in sizes]
    assert results["box_proposals"]["AR@100"] == pytest.approx(100 * 2 / 3)
    assert results["box_proposals"]["ARs@100"] == pytest.approx(100.0)
    assert results["box_proposals"]["ARm@100"] == 0.0
    assert math.isnan(results["box_proposals"]["ARl@100"])
    saved = pickle.loads((tmp_path / "out" / "box_proposals.pkl").read_bytes())
    assert saved["ids"] == [1, 2]
    assert saved["bbox_mode"] == 0
    assert saved["boxes"][0].dtype == np.float32


def test_proposals_of_an_unknown_area(dataset):
    with pytest.raises(ValueError, match=r"tiny.*small"):
        _evaluate_box_proposals([], coco_from_dict(dataset), area="tiny")
