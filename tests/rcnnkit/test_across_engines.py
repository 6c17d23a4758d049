"""One checkpoint, two engines: what either writes, the other evaluates to the same detections and continues."""

import json
import shutil
from pathlib import Path

import pycocotools.mask as mask_util
import pytest
import torch

from tests.rcnnkit import runs, tiny

pytestmark = [pytest.mark.parity, pytest.mark.slow]
ENGINES = ("builtin", "detectron2")
OTHER = dict(zip(ENGINES, reversed(ENGINES), strict=True))
MASKS = ("MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.NUM_CLASSES", "2")
STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {"tiny": (tiny.write_data_set(folder), folder)}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Per engine, the output folder of a training that it did, evaluation included."""
    folders = {}
    for engine in ENGINES:
        folder = tmp_path_factory.mktemp(engine)
        run(engine, runs.train_net(folder, data, *MASKS, "SOLVER.MAX_ITER", str(STEPS)))
        folders[engine] = folder / "output"
    return folders


def run(engine: str, arguments: list[str]) -> None:
    status, out, err = runs.finish(runs.start("train_net.py", *arguments, engine=engine))
    if "Detectron2 is not installed" in err:
        pytest.skip("stock Detectron2 is not on the path: make parity STOCK_DETECTRON2=/folder/with/detectron2")
    assert status == 0, out[-2000:] + err[-2000:]
    assert f"engine: {engine} " in out


def detections(output: Path) -> list[dict]:
    return json.loads((output / "inference" / "coco_instances_results.json").read_text())


@pytest.mark.parametrize("writer", ENGINES)
def test_trains_and_writes_the_same_files(trained, writer):
    assert runs.missing_files(trained[writer], "model_0000001.pth", "model_0000003.pth") == []


@pytest.mark.parametrize("writer", ENGINES)
def test_the_other_engine_finds_the_same(trained, data, tmp_path, writer):
    weights = ("MODEL.WEIGHTS", str(trained[writer] / "model_final.pth"))
    run(OTHER[writer], runs.train_net(tmp_path, data, *MASKS, "--eval-only", *weights))
    expected, found = detections(trained[writer]), detections(tmp_path / "output")
    assert len(expected) == len(found) > 20
    for one, other in zip(expected, found, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        masks = [mask_util.decode(detection["segmentation"]) for detection in (one, other)]
        assert (masks[0] != masks[1]).sum() <= 1  # a pixel at the threshold may round either way


@pytest.mark.parametrize("writer", ENGINES)
def test_the_other_engine_continues(trained, data, tmp_path, writer):
    output = tmp_path / "output"
    shutil.copytree(trained[writer], output)
    longer = ("SOLVER.MAX_ITER", str(STEPS + 2), "DATASETS.TEST", "()")
    run(OTHER[writer], runs.train_net(tmp_path, data, *MASKS, *longer, "--resume"))
    assert f"Starting training from iteration {STEPS}" in (output / "log.txt").read_text()
    assert runs.metrics(output)[-1]["iteration"] == STEPS + 1
    before, after = (torch.load(folder / "model_final.pth", weights_only=True) for folder in (trained[writer], output))
    assert list(before["model"]) == list(after["model"])
    assert set(before) == set(after) and after["iteration"] == STEPS + 1
    weight = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(before["model"][weight], after["model"][weight])
