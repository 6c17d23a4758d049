"""The fast evaluation gives pycocotools' numbers, array by array, in a fraction of the time."""

import copy
import json
import time

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco
from detectron2.evaluation.fast_eval_api import COCOeval_opt

from .detections import coco_from_dict, load_coco, perturbed_results, synthetic_boxes

JSON_FILES = {
    "nuts": "nuts/trainval.json",
    "instances": "coco_mini/annotations/instances_val2017.json",
    "persons": "coco_mini/annotations/person_keypoints_val2017.json",
}


def _both(coco, results, task, **kwargs):
    return [
        _evaluate_predictions_on_coco(copy.deepcopy(coco), results, task, cocoeval_fn=function, **kwargs)
        for function in (COCOeval_opt, COCOeval)
    ]


def _assert_equal(fast, oracle):
    assert isinstance(fast, COCOeval_opt)
    for name in ("precision", "recall", "scores"):
        assert fast.eval[name].shape == oracle.eval[name].shape
        np.testing.assert_allclose(fast.eval[name], oracle.eval[name], rtol=0, atol=1e-9)
    np.testing.assert_allclose(fast.stats, oracle.stats, rtol=0, atol=1e-9)
    assert (oracle.stats > 0).sum() >= 4  # the comparison is about something


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("nuts", "bbox"),
        ("nuts", "segm"),
        ("instances", "bbox"),  # crowd regions, 80 classes of which some have no object
        ("instances", "segm"),  # crowd masks as uncompressed run lengths
        ("persons", "bbox"),
        ("persons", "keypoints"),  # persons without a visible keypoint
    ],
)
def test_numbers_equal_pycocotools(real_data, name, task):
    coco = load_coco(real_data / JSON_FILES[name])
    if name != "nuts":
        assert sum(annotation["iscrowd"] for annotation in coco.anns.values()) > 0
    _assert_equal(*_both(coco, perturbed_results(coco), task))


@pytest.mark.realdata
def test_subset_of_images(real_data):
    coco = load_coco(real_data / JSON_FILES["instances"])
    image_ids = sorted(coco.imgs)[10:40]
    _assert_equal(*_both(coco, perturbed_results(coco), "segm", img_ids=image_ids))


@pytest.mark.realdata
@pytest.mark.parametrize("max_dets", [[1, 2, 5], [1, 10, 300]])
def test_other_limits_of_detections(real_data, max_dets):
    coco = load_coco(real_data / JSON_FILES["nuts"])
    fast, oracle = _both(coco, perturbed_results(coco), "bbox", max_dets_per_image=max_dets)
    _assert_equal(fast, oracle)
    assert fast.params.maxDets == max_dets
    assert fast.stats[0] > 0


def test_image_ids_that_are_not_integers():
    coco, results = synthetic_boxes(6)
    dataset = copy.deepcopy(coco.dataset)
    for record in dataset["images"]:
        record["id"] = f"image-{record['id']}"
    for record in [*dataset["annotations"], *results]:
        record["image_id"] = f"image-{record['image_id']}"
    _assert_equal(*_both(coco_from_dict(dataset), results, "bbox"))


def test_accumulate_before_evaluate_is_refused():
    coco, _ = synthetic_boxes(1)
    with pytest.raises(RuntimeError, match="evaluate"):
        COCOeval_opt(coco, coco, "bbox").accumulate()


@pytest.mark.slow
def test_at_least_five_times_as_fast_as_pycocotools():
    """Processor time, so that other programs on the machine do not count; 40 000 detections."""
    coco, results = synthetic_boxes(400)
    seconds = []
    for function in (COCOeval_opt, COCOeval):
        start = time.process_time()
        _evaluate_predictions_on_coco(coco, results, "bbox", cocoeval_fn=function)
        seconds.append(time.process_time() - start)
    assert seconds[1] / seconds[0] >= 5.0


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "task", "options"),
    [
        ("instances", "bbox", {}),
        ("instances", "segm", {}),
        ("instances", "bbox", {"max_dets_per_image": [1, 10, 30]}),
        ("persons", "keypoints", {}),
        ("persons", "keypoints", {"kpt_oks_sigmas": [0.02 + 0.005 * i for i in range(17)]}),
    ],
)
def test_a_detections_file_equals_pycocotools(real_data, tmp_path, capsys, name, task, options):
    """pycocotools reads and evaluates the file by itself; ours is the function that COCOEvaluator calls."""
    coco = load_coco(real_data / JSON_FILES[name])
    results = perturbed_results(coco)
    ours = _evaluate_predictions_on_coco(coco, copy.deepcopy(results), task, cocoeval_fn=COCOeval_opt, **options)

    path = tmp_path / "detections.json"
    # a box beside keypoints, as COCOEvaluator writes it, is what COCO's size ranges go by
    keys = {"bbox": ("bbox",), "segm": ("segmentation",), "keypoints": ("keypoints", "bbox")}
    wanted = ("image_id", "category_id", "score", *keys[task])
    path.write_text(json.dumps([{key: row[key] for key in wanted} for row in results]))
    fresh = load_coco(real_data / JSON_FILES[name])
    oracle = COCOeval(fresh, fresh.loadRes(str(path)), task)
    if "kpt_oks_sigmas" in options:
        oracle.params.kpt_oks_sigmas = np.array(options["kpt_oks_sigmas"])
    if "max_dets_per_image" in options:
        oracle.params.maxDets = options["max_dets_per_image"]
    oracle.evaluate()
    oracle.accumulate()
    for name in ("precision", "recall", "scores"):
        np.testing.assert_allclose(ours.eval[name], oracle.eval[name], rtol=0, atol=1e-9)
    assert (oracle.eval["precision"] > 0).any()
