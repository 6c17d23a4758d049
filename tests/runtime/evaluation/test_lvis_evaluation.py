"""LVIS' metrics: federated counting worked out by hand, and the numbers of LVIS' own tool on random detections."""

import json
import math

import numpy as np
import pytest
import torch

from detectron2.data import MetadataCatalog
from detectron2.evaluation import LVISEvaluator
from detectron2.evaluation.lvis_matching import LVISEvaluation, best_per_image, match, precision_at_recall
from detectron2.structures import Boxes, Instances

NAME = "lvis_evaluation_test"
# Computed by the package lvis 0.5.3 (limit 300 and 3 detections per image) from `random_data`.
OF_LVIS = {
    (300, "bbox"): [18.173697638264027, 36.50523894615139, 16.285700260240574, 14.745234727554388, 22.040386566943486]
    + [-100.0, 15.092643301579676, 19.026052697851352, 19.65949715632871],
    (300, "segm"): [8.018020489629127, 31.105286642588087, 0.4243281471004243, 6.481713477470195, 10.077428705670519]
    + [-100.0, 6.351264666820493, 7.727800510799761, 9.32267102405446],
    (3, "bbox"): [9.984392827037805, 21.458574428871454, 8.38026659808838, 5.954738330975955, 12.643996542511394]
    + [-100.0, 8.3490099009901, 8.486216478790736, 12.073432343234321],
    (3, "segm"): [4.567921588077175, 17.94018687583044, 0.4243281471004243, 4.031117397454031, 5.899575671852899]
    + [-100.0, 3.5654815481548163, 3.501510865372251, 5.947155429828697],
}
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]


def random_data():
    """An LVIS file of 40 images and 7 categories, and detections (image, category, XYWH box, score) with many ties."""
    rng = np.random.default_rng(0)
    num = 7
    categories = [{"id": i + 1, "name": f"c{i}", "frequency": "rcfrcff"[i]} for i in range(num)]
    images, annotations, found = [], [], []
    for image in range(1, 41):
        present = rng.choice(np.arange(1, num + 1), size=rng.integers(0, 4), replace=False)
        rest = [c for c in range(1, num + 1) if c not in present]
        negative = rng.choice(rest, size=min(len(rest), 2), replace=False).tolist()
        partly = [int(c) for c in present if rng.random() < 0.3]
        images.append(
            {
                "id": image,
                "height": 200,
                "width": 220,
                "neg_category_ids": negative,
                "not_exhaustive_category_ids": partly,
            }
        )
        for category in present:
            for _ in range(rng.integers(1, 4)):
                x, y = rng.uniform(0, 100, 2)
                w, h = rng.uniform(8, 100, 2)
                polygon = [x, y, x + w, y, x + w, y + h, x + w / 2, y + h]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image, "category_id": int(category), "bbox": [x, y, w, h]}
                    | {"area": w * h * 0.75, "segmentation": [polygon]}
                )
                for _ in range(rng.integers(0, 3)):
                    dx, dy, dw, dh = rng.normal(0, 4, 4)
                    box = [x + dx, y + dy, max(2, w + dw), max(2, h + dh)]
                    found.append((image, int(category), box, float(np.round(rng.uniform(), 2))))
        for _ in range(4):
            x, y = rng.uniform(0, 100, 2)
            w, h = rng.uniform(8, 100, 2)
            found.append((image, int(rng.integers(1, num + 1)), [x, y, w, h], float(np.round(rng.uniform(), 2))))
    return {"categories": categories, "images": images, "annotations": annotations}, found


def instances_of(found, masks):
    instances = Instances((200, 220))
    boxes = torch.tensor([box for _, _, box, _ in found], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.tensor([score for *_, score in found])
    instances.pred_classes = torch.tensor([category - 1 for _, category, _, _ in found], dtype=torch.int64)
    if masks:
        y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(220) + 0.5, indexing="ij")
        inside = [(x >= b[0]) & (x < b[2]) & (y >= b[1]) & (y < b[3]) for b in boxes]
        instances.pred_masks = torch.stack(inside) if inside else torch.zeros(0, 200, 220, dtype=torch.bool)
    return instances


@pytest.fixture
def registered(tmp_path):
    content, found = random_data()
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    MetadataCatalog.get(NAME).set(json_file=str(path), thing_classes=[f"c{i}" for i in range(7)])
    yield found
    MetadataCatalog.remove(NAME)


@pytest.mark.parametrize("limit", [300, 3])
def test_numbers_of_the_lvis_package(registered, tmp_path, limit):
    limits = {} if limit == 300 else {"max_dets_per_image": limit}
    evaluator = LVISEvaluator(NAME, distributed=False, output_dir=str(tmp_path / "out"), **limits)
    evaluator.reset()
    for image in range(1, 41):
        instances = instances_of([one for one in registered if one[0] == image], masks=True)
        evaluator.process([{"image_id": image}], [{"instances": instances}])
    results = evaluator.evaluate()
    assert list(results) == ["bbox", "segm"]
    for task, metrics in results.items():
        assert list(metrics) == METRICS
        assert list(metrics.values()) == pytest.approx(OF_LVIS[limit, task], abs=1e-9)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["instances_predictions.pth", "lvis_instances_results.json"]
    saved = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert {row["category_id"] for row in saved} == set(range(1, 8))


BOX = [0.0, 0.0, 40.0, 40.0]


def hand_made(neg=(), partly=(), objects=(1,)):
    images = [
        {"id": 1, "height": 100, "width": 100, "neg_category_ids": [], "not_exhaustive_category_ids": []},
        {
            "id": 2,
            "height": 100,
            "width": 100,
            "neg_category_ids": list(neg),
            "not_exhaustive_category_ids": list(partly),
        },
    ]
    annotations = [
        {"id": i, "image_id": image, "category_id": 1, "bbox": BOX, "area": 1600.0}
        for i, image in enumerate(objects, start=1)
    ]
    categories = [{"id": 1, "frequency": "r"}, {"id": 2, "frequency": "f"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def detection(image, score, box=BOX, category=1):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


FAR = [60.0, 60.0, 40.0, 40.0]


@pytest.mark.parametrize(
    ("ground_truth", "ap"),
    [
        # a false alarm of higher score: precision 1/2 at every recall
        (hand_made(neg=[1]), 0.5),
        # image 2 says nothing of the category: its detection does not count
        (hand_made(), 1.0),
        # image 2 has the object, found by the second detection there; the first one is a false alarm: best precision at
        # recall 1/2 and 1 is 2/3
        (hand_made(objects=(1, 2)), 2 / 3),
        # … unless the category is annotated in part
        (hand_made(objects=(1, 2), partly=[1]), 1.0),
    ],
)
def test_federated_counting_by_hand(ground_truth, ap):
    results = [detection(2, 0.9, FAR), detection(1, 0.8)]
    if len(ground_truth["annotations"]) == 2:
        results.append(detection(2, 0.7))
    evaluation = LVISEvaluation(ground_truth, results, "bbox")
    assert evaluation.average_precision() == pytest.approx(ap)
    assert evaluation.average_precision(frequency="r") == pytest.approx(ap)
    assert math.isnan(evaluation.average_precision(frequency="f"))  # no object of category 2
    assert evaluation.average_precision(area="medium") == pytest.approx(ap)
    assert math.isnan(evaluation.average_precision(area="small"))
    assert evaluation.average_recall() == 1.0


def test_no_detection_of_a_category_that_has_objects():
    evaluation = LVISEvaluation(hand_made(), [detection(1, 0.5, category=2)], "bbox")
    assert evaluation.average_precision() == 0.0
    assert evaluation.average_recall() == 0.0


def test_limit_counts_all_categories_of_an_image():
    results = [detection(1, 0.1), detection(1, 0.9, category=2), detection(2, 0.2), detection(1, 0.5)]
    assert [r["score"] for r in best_per_image(results, 2)] == [0.9, 0.5, 0.2]
    assert len(best_per_image(results, -1)) == 4


def test_match_by_hand():
    # the second detection overlaps object 0 more, but that is taken; object 1 is left only at thresholds up to 0.6
    iou = np.array([[0.9, 0.7], [0.8, 0.6]])
    counted = np.zeros((1, 2), dtype=bool)
    assert match(iou, counted, np.array([0.5, 0.75])).tolist() == [[[0, 1]], [[0, -1]]]
    # an ignored object is taken only if no other one fits
    ignored = np.array([[True, False]])
    assert match(iou, ignored, np.array([0.5, 0.75])).tolist() == [[[1, 0]], [[0, -1]]]
    assert match(np.array([[0.7, 0.7]]), counted, np.array([0.5])).tolist() == [[[1]]]
    assert match(np.zeros((2, 0)), np.zeros((4, 0), dtype=bool)).shape == (10, 4, 2)
    assert match(np.zeros((0, 2)), np.zeros((4, 2), dtype=bool)).shape == (10, 4, 0)


def test_precision_at_recall_by_hand():
    hits, misses = np.array([True, False, True]), np.array([False, True, False])
    precision, recall = precision_at_recall(hits, misses, 4)
    assert recall == 0.5
    assert precision[[0, 25, 26, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 0, 0])
    precision, recall = precision_at_recall(np.zeros(0, bool), np.zeros(0, bool), 4)
    assert recall == 0.0
    assert not precision.any()


def test_mismatches_are_named():
    with pytest.raises(ValueError, match="image_id=7"):
        LVISEvaluation(hand_made(), [detection(7, 0.5)], "bbox")
    with pytest.raises(ValueError, match="'keypoints'"):
        LVISEvaluation(hand_made(), [], "keypoints")


def test_nothing_predicted(registered):
    evaluator = LVISEvaluator(NAME, distributed=False)
    evaluator.reset()
    assert evaluator.evaluate() == {}
    evaluator.process([{"image_id": 1}], [{"instances": instances_of([], masks=False)}])
    results = evaluator.evaluate()
    assert list(results["bbox"]) == METRICS
    assert all(math.isnan(value) for value in results["bbox"].values())


def test_proposals(registered, tmp_path):
    evaluator = LVISEvaluator(NAME, distributed=False, output_dir=str(tmp_path))
    evaluator.reset()
    proposals = Instances((200, 220))
    proposals.proposal_boxes = Boxes(torch.tensor([[10.0, 10, 60, 60], [50, 50, 120, 140]]))
    proposals.objectness_logits = torch.tensor([1.0, 2.0])
    for image in range(1, 41):
        evaluator.process([{"image_id": image}], [{"proposals": proposals}])
    results = evaluator.evaluate()["box_proposals"]
    # of stock Detectron2 with the same proposals
    assert results["AR@100"] == pytest.approx(1.4705883339047432, abs=1e-6)
    assert results["ARm@1000"] == pytest.approx(2.0202022045850754, abs=1e-6)
    assert (tmp_path / "box_proposals.pkl").is_file()


def test_test_images_have_no_annotations(registered, tmp_path):
    content, _ = random_data()
    del content["annotations"]
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps(content))
    MetadataCatalog.remove(NAME)
    MetadataCatalog.get(NAME).set(json_file=str(path))
    evaluator = LVISEvaluator(NAME, distributed=False, output_dir=str(tmp_path / "out"))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": instances_of(registered[:2], masks=False)}])
    assert evaluator.evaluate() == {}
    assert len(json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())) == 2
