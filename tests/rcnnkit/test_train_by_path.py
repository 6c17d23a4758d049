"""train_net.py on folders named by path: trained, evaluated, evaluated again from the checkpoint and its classes."""

import json
import math

import pytest
import torch

from detectron2.data import DatasetCatalog
from rcnnkit.data.registration import forget
from tests.rcnnkit import runs, tiny

FEW_PIXELS = (
    "INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MAX_SIZE_TRAIN", "128", "INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST",
    "128", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "10", "SOLVER.IMS_PER_BATCH", "2",
)  # fmt: skip
# folder below the real data, config in configs/quick, number of classes, images to train and to evaluate on, of the 2
BOXES, MASKS, POINTS = "faster_rcnn", "mask_rcnn", "keypoint_rcnn"
REAL_FOLDERS = [
    ("nuts", MASKS, 3, 14, 4),
    ("bccd", BOXES, 3, 205, 87),
    ("balloon", MASKS, 1, 48, 13),
    ("nuclei", MASKS, 1, 23, 6),
    ("pothole", MASKS, 1, 80, 5),
    ("formats", BOXES, 20, 80, 20),
    ("openfield", POINTS, 1, 48, 12),
    ("coco_mini", MASKS, 80, 80, 79),
    ("coco_mini", POINTS, 1, 80, 79),
]


@pytest.fixture
def by_path(tmp_path):
    recipe = runs.write_recipe(tmp_path)

    def run(train, test, *more, config=recipe):
        flags = [argument for argument in more if argument.startswith("--")]
        overrides = [argument for argument in more if not argument.startswith("--")]
        names = ("DATASETS.TRAIN", repr(tuple(train)), "DATASETS.TEST", repr(tuple(test)))
        output = ("OUTPUT_DIR", str(tmp_path / "output"), "SOLVER.MAX_ITER", "2")
        return runs.run_here(["--config-file", str(config), *flags, *names, *output, *overrides])

    before = set(DatasetCatalog.list())
    yield run
    for name in set(DatasetCatalog.list()) - before:
        forget(name)


def test_trains_evaluates_and_remembers_its_classes(by_path, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    tiny.write_data_set(data)
    output = tmp_path / "output"
    assert by_path([f"{data}@train"], [f"{data}@val"], "MODEL.MASK_ON", "True") == 0
    assert runs.missing_files(output) == []
    log = (output / "log.txt").read_text()
    assert "held out by a seeded draw" in log and "from the data: MODEL.ROI_HEADS.NUM_CLASSES 2" in log
    assert torch.load(output / "model_final.pth", weights_only=True)["rcnnkit"] == {"classes": ["bright", "dark"]}
    truths = list((output / "inference").glob("*_coco_format.json"))
    assert len(truths) == 1 and len(json.loads(truths[0].read_text())["images"]) == 1

    content = json.loads((data / "tiny.json").read_text())
    content["categories"] = [{"id": 1, "name": "bright"}, {"id": 2, "name": "black"}]
    (data / "tiny.json").write_text(json.dumps(content))
    weights = ("MODEL.WEIGHTS", str(output / "model_final.pth"))
    capsys.readouterr()
    assert by_path([], [str(data)], "--eval-only", "MODEL.MASK_ON", "True", *weights) == 2
    assert "classes that the model does not have: 'black' (nearest: 'dark')" in capsys.readouterr().err
    assert by_path([f"{data}@train"], [], "--resume", "MODEL.MASK_ON", "True", "SOLVER.MAX_ITER", "3") == 2
    assert "missing in the data 1: dark; new in the data 1: black" in capsys.readouterr().err

    content["categories"] = [
        {"id": 1, "name": "dark"},
        {"id": 2, "name": "bright"},
    ]  # the same ones, the other way round
    (data / "tiny.json").write_text(json.dumps(content))
    assert by_path([], [str(data)], "--eval-only", "MODEL.MASK_ON", "True", *weights) == 0


@pytest.mark.slow
@pytest.mark.realdata
def test_nuts_and_a_catalogued_data_set(by_path, real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    nuts = str(real_data / "nuts")
    assert by_path(["shapes_val", f"{nuts}@train"], [f"{nuts}@val"], "RCNNKIT.CHECK_IMAGES", "False") == 0
    output = tmp_path / "output"
    classes = torch.load(output / "model_final.pth", weights_only=True)["rcnnkit"]["classes"]
    assert len(classes) == 8 and classes[5:] == ["date", "fig", "hazelnut"]
    last = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()][-1]
    assert {"bbox/AP", "bbox/AP-date"} <= set(last)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "model", "classes", "train", "val"), REAL_FOLDERS)
def test_every_real_folder(by_path, real_data, repository, tmp_path, folder, model, classes, train, val):
    """The shipped configs have five classes and four keypoints: what the data have counts."""
    path, output = real_data / folder, tmp_path / "output"
    config = repository / "configs" / "quick" / f"{model}_R_18_FPN_shapes.yaml"
    assert by_path([f"{path}@train"], [f"{path}@val"], *FEW_PIXELS, config=config) == 0
    assert runs.missing_files(output) == []
    stored = torch.load(output / "model_final.pth", weights_only=True)["rcnnkit"]["classes"]
    assert len(stored) == classes

    log = (output / "log.txt").read_text()
    assert f"@train: {train} images, " in log and f"@val: {val} images, " in log
    steps = runs.metrics(output)
    assert steps[-1]["iteration"] == 1 and all(math.isfinite(step["total_loss"]) for step in steps)
    losses, tasks = {BOXES: (set(), {"bbox"}), MASKS: ({"loss_mask"}, {"bbox", "segm"}),
                     POINTS: ({"loss_keypoint"}, {"bbox", "keypoints"})}[model]  # fmt: skip
    assert losses <= set(steps[-1])
    last = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()][-1]
    for task in tasks:
        assert 0 <= last[f"{task}/AP"] <= 100
    found = json.loads((output / "inference" / "coco_instances_results.json").read_text())
    assert found and ("segmentation" in found[0]) == (model == MASKS) and ("keypoints" in found[0]) == (model == POINTS)
    assert 0 < len({detection["image_id"] for detection in found}) <= val
