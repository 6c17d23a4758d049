"""train_net.py on folders named by path: trained, evaluated, evaluated again from the checkpoint and its classes."""

import json

import pytest
import torch

from detectron2.data import DatasetCatalog
from rcnnkit.data.registration import forget
from tests.rcnnkit import runs, tiny


@pytest.fixture
def by_path(tmp_path):
    recipe = runs.write_recipe(tmp_path)

    def run(train, test, *more):
        flags = [argument for argument in more if argument.startswith("--")]
        overrides = [argument for argument in more if not argument.startswith("--")]
        names = ("DATASETS.TRAIN", repr(tuple(train)), "DATASETS.TEST", repr(tuple(test)))
        output = ("OUTPUT_DIR", str(tmp_path / "output"), "SOLVER.MAX_ITER", "2")
        return runs.run_here(["--config-file", str(recipe), *flags, *names, *output, *overrides])

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
