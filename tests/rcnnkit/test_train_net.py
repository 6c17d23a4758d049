"""train_net.py: training, resuming, evaluating; each kind of bad input: one line, exit status 2, nothing written."""

import json
import os
import pickle
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.rcnnkit import tiny
from tests.rcnnkit.runs import forget_loggers, keep_gpus

CANARY = Path("canary")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    yield tiny.write_data_set(folder)
    if "tiny" in DatasetCatalog.list():
        DatasetCatalog.remove("tiny")
        MetadataCatalog.remove("tiny")


@pytest.fixture
def train(repository, data, tmp_path, monkeypatch, capfd):
    """Run train_net.py in this process with the tiny data set; returns (exit status, lines on stderr)."""
    monkeypatch.chdir(tmp_path)
    keep_gpus(monkeypatch)

    def run(*more: str, output: Path = tmp_path / "output") -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["train_net.py", *tiny.command(repository, data, output, *more)])
        forget_loggers()
        capfd.readouterr()
        try:
            runpy.run_path(str(repository / "train_net.py"), run_name="__main__")
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        return status, capfd.readouterr().err.strip().splitlines()

    return run


@pytest.fixture
def refused(train, tmp_path):
    """Run with bad input: exit status 2, one line, no output folder; returns the line."""

    def run(*more: str) -> str:
        status, lines = train(*more)
        assert status == 2, lines
        own = [line for line in lines if line.startswith("train_net.py: ")]
        assert len(own) == 1 and own[0] == lines[-1] and "Traceback" not in "\n".join(lines), lines
        assert not (tmp_path / "output").exists()
        return own[0]

    return run


def losses(output: Path) -> dict[int, float]:
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    return {line["iteration"]: line["total_loss"] for line in lines if "total_loss" in line}


def test_a_finished_training_says_that_nothing_is_left(train, tmp_path):
    assert train("SOLVER.MAX_ITER", "2")[0] == 0
    assert train("--resume", "SOLVER.MAX_ITER", "1")[0] == 0
    log = (tmp_path / "output" / "log.txt").read_text()
    assert "the last checkpoint is of iteration 2, SOLVER.MAX_ITER is 1: nothing is left to train" in log


def test_test_time_augmentation_is_evaluated_too(train, tmp_path):
    output, augmented = tmp_path / "output", ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(48, 64)")
    assert train("SOLVER.MAX_ITER", "2", *augmented)[0] == 0
    assert (output / "inference" / "coco_instances_results.json").is_file()
    assert (output / "inference_TTA" / "coco_instances_results.json").is_file()
    [metrics] = [
        line for line in map(json.loads, (output / "metrics.json").read_text().splitlines()) if "bbox/AP" in line
    ]
    assert {"bbox_TTA/AP", "segm_TTA/AP", "boundary_TTA/AP"} <= set(metrics)
    (output / "inference_TTA" / "coco_instances_results.json").unlink()
    assert train("--eval-only", "MODEL.WEIGHTS", str(output / "model_final.pth"), *augmented)[0] == 0
    assert (output / "inference_TTA" / "coco_instances_results.json").is_file()


def test_a_model_that_test_time_augmentation_does_not_know(refused):
    line = refused("TEST.AUG.ENABLED", "True", "MODEL.META_ARCHITECTURE", "ProposalNetwork", "MODEL.MASK_ON", "False")
    assert "TEST.AUG.ENABLED: True, but not for this model: " in line and line.endswith("set it to False")


def test_trains_resumes_and_evaluates(train, tmp_path):
    output = tmp_path / "output"
    assert train("SOLVER.MAX_ITER", "2")[0] == 0
    for name in ("config.yaml", "log.txt", "metrics.json", "last_checkpoint", "model_0000001.pth", "model_final.pth",
                 "inference/coco_instances_results.json"):  # fmt: skip
        assert (output / name).is_file(), name
    assert list(output.glob("events.out.tfevents.*"))
    assert train("--resume")[0] == 0
    assert 3 in losses(output)
    assert "Starting training from iteration 2" in (output / "log.txt").read_text()
    (output / "inference" / "coco_instances_results.json").unlink()
    assert train("--eval-only", "MODEL.WEIGHTS", str(output / "model_final.pth"))[0] == 0
    assert (output / "inference" / "coco_instances_results.json").is_file()


def weights_of_old(model: dict) -> dict:
    """A model's weights as files of old have them, with what a config says today."""
    prefix = "proposal_generator.anchor_generator.cell_anchors"
    anchors = {f"{prefix}.{level}": torch.zeros(3, 4) for level in range(5)}
    return {**model, **anchors, "pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}


def test_files_of_old_evaluate_and_resume(train, tmp_path):
    output = tmp_path / "output"
    assert train("SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")[0] == 0
    saved = torch.load(output / "model_final.pth", weights_only=True)
    saved["model"] = weights_of_old(saved["model"])
    torch.save({"model": saved["model"]}, tmp_path / "old.pth")
    arrays = {name: tensor.numpy() for name, tensor in saved["model"].items()}
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    for suffix in ("pth", "pkl"):
        evaluated = tmp_path / suffix
        assert train("--eval-only", "MODEL.WEIGHTS", str(tmp_path / f"old.{suffix}"), output=evaluated)[0] == 0
        assert (evaluated / "inference" / "coco_instances_results.json").is_file()
    torch.save(saved, output / "model_final.pth")
    assert train("--resume", "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "()")[0] == 0
    assert "Starting training from iteration 1" in (output / "log.txt").read_text()
    deeper = {**arrays, "backbone.bottom_up.res4.2.conv1.weight": np.zeros((8, 8, 3, 3), np.float32)}
    (tmp_path / "deeper.pkl").write_bytes(pickle.dumps({"model": deeper, "__author__": "Detectron2 Model Zoo"}))
    status, lines = train("--eval-only", "MODEL.WEIGHTS", str(tmp_path / "deeper.pkl"), output=tmp_path / "deeper")
    assert status == 2 and "unexpected 1: backbone.bottom_up.res4.2.conv1.weight;" in lines[-1]
    assert not (tmp_path / "deeper").exists()


class TestConfig:
    def test_missing_file_names_the_nearest(self, refused, repository):
        line = refused(f"--config-file={repository / 'configs' / 'quick' / 'mask_rcnn_R_18_FPN_shape.yaml'}")
        assert "no such config file" in line and "mask_rcnn_R_18_FPN_shapes.yaml" in line

    def test_unknown_key_in_a_file(self, refused, tmp_path):
        (tmp_path / "bad.yaml").write_text("SOLVER:\n  BASE_LEARNING_RATE: 0.1\n")
        line = refused(f"--config-file={tmp_path / 'bad.yaml'}")
        assert "bad.yaml" in line and "SOLVER.BASE_LEARNING_RATE" in line and "nearest" in line

    def test_file_that_is_not_yaml(self, refused, tmp_path):
        (tmp_path / "bad.yaml").write_text("MODEL: [unclosed")
        assert "bad.yaml" in refused(f"--config-file={tmp_path / 'bad.yaml'}")

    def test_file_that_would_run_code(self, refused, tmp_path):
        (tmp_path / "bad.yaml").write_text("OUTPUT_DIR: !!python/object/apply:pathlib.Path.touch [canary]")
        refused(f"--config-file={tmp_path / 'bad.yaml'}")
        assert not (tmp_path / CANARY).exists()

    def test_unknown_key_as_override(self, refused):
        assert "SOLVER.BASE_LR" in refused("SOLVER.BASELR", "0.1")

    def test_value_of_the_wrong_type(self, refused):
        line = refused("SOLVER.MAX_ITER", "many")
        assert "SOLVER.MAX_ITER many" in line

    def test_override_without_a_value(self, refused):
        assert "no value" in refused("SOLVER.MAX_ITER")


class TestDataSet:
    def test_unregistered_name_lists_the_nearest(self, refused):
        line = refused("DATASETS.TRAIN", "('shapes_trian',)")
        assert "shapes_trian" in line and "shapes_train" in line

    def test_missing_json(self, refused, data):
        data.unlink()
        assert "tiny.json is missing" in refused()

    def test_truncated_json(self, refused, data):
        data.write_bytes(data.read_bytes()[:-40])
        line = refused()
        assert "tiny.json" in line and "truncated or not JSON" in line

    def test_json_that_is_not_coco(self, refused, data):
        data.write_text('{"shapes": []}')
        line = refused()
        assert "tiny.json is not COCO" in line and "'images'" in line

    def test_annotation_of_an_unlisted_image(self, refused, data):
        content = json.loads(data.read_text())
        content["annotations"][3]["image_id"] = 99
        data.write_text(json.dumps(content))
        line = refused()
        assert "annotation" in line and "99" in line and "tiny.json" in line

    @pytest.mark.parametrize(
        ("key", "field", "value", "message"),
        [
            ("annotations", "image_id", [1], "annotation 3 has image_id [1]"),
            ("annotations", "bbox", [1, 2, float("nan"), 4], "annotation 3 has bbox [1, 2, nan, 4]"),
            ("images", "id", 1, "images[0] and [2] have the same id 1"),
            ("images", "file_name", None, "image 3 has file_name None"),
        ],
    )
    def test_field_that_cannot_be_used(self, refused, data, key, field, value, message):
        content = json.loads(data.read_text())
        content[key][2][field] = value
        data.write_text(json.dumps(content))
        line = refused()
        assert "tiny.json" in line and message in line

    def test_wrong_number_of_classes(self, refused):
        line = refused("MODEL.ROI_HEADS.NUM_CLASSES", "3")
        assert "'tiny' has 2 classes (bright, dark)" in line and "set it to 2" in line

    def test_annotation_without_a_segmentation(self, refused, data):
        content = json.loads(data.read_text())
        del content["annotations"][2]["segmentation"]
        data.write_text(json.dumps(content))
        line = refused()
        assert "image 2" in line and "2.png" in line and "has no segmentation" in line and "MODEL.MASK_ON False" in line

    def test_unknown_field_of_an_entry(self, refused):
        assert "'jsn'" in refused("DATASETS.CUSTOM", "[{'name': 'tiny', 'jsn': 'x'}]")


class TestImage:
    def test_missing(self, refused, data):
        (data.parent / "3.png").unlink()
        line = refused()
        assert "image 3" in line and "3.png" in line and "missing" in line

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_truncated(self, refused, data, suffix):
        image = data.parent / f"2.{suffix}"
        with Image.open(data.parent / "2.png") as original:
            original.save(image)
        data.write_text(data.read_text().replace("2.png", image.name))
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
        line = refused()
        assert "image 2" in line and image.name in line and "truncated or damaged" in line

    def test_of_another_size(self, refused, data):
        Image.new("RGB", (64, 48)).save(data.parent / "4.png")
        line = refused()
        assert "4.png" in line and "64x48" in line and "64x64" in line


class TestCheckpoint:
    def test_missing(self, refused, tmp_path):
        assert "no such file" in refused("MODEL.WEIGHTS", str(tmp_path / "gone.pth"))

    def test_empty(self, refused, tmp_path):
        (tmp_path / "weights.pth").touch()
        assert "empty" in refused("MODEL.WEIGHTS", str(tmp_path / "weights.pth"))

    def test_truncated(self, refused, tmp_path):
        path = tmp_path / "weights.pth"
        torch.save({"model": {"a": torch.zeros(1000)}}, path)
        path.write_bytes(path.read_bytes()[:2000])
        line = refused("MODEL.WEIGHTS", str(path))
        assert "weights.pth" in line and "truncated" in line

    def test_of_another_architecture(self, refused, tmp_path):
        path = tmp_path / "weights.pth"
        torch.save(
            {
                "model": {
                    "backbone.bottom_up.stem.conv1.weight": torch.zeros(64, 3, 7, 7),
                    "head.weight": torch.zeros(1),
                }
            },
            path,
        )
        for more in ((), ("--eval-only",)):
            line = refused("MODEL.WEIGHTS", str(path), *more)
            assert "another architecture" in line and "missing" in line
            assert (
                "head.weight" in line
                and "backbone.bottom_up.stem.conv1.weight (64, 3, 7, 7) instead of (8, 3, 7, 7)" in line
            )

    @pytest.mark.parametrize("suffix", ["pth", "pkl"])
    def test_holding_code(self, refused, tmp_path, suffix):
        path = tmp_path / f"weights.{suffix}"
        if suffix == "pth":
            torch.save({"model": {"a": TouchesCanary()}}, path)
        else:
            path.write_bytes(pickle.dumps({"model": {"a": TouchesCanary()}}))
        line = refused("MODEL.WEIGHTS", str(path))
        assert f"weights.{suffix}" in line and "holds code" in line
        assert not (tmp_path / CANARY).exists()

    def test_evaluation_without_weights(self, refused):
        assert "MODEL.WEIGHTS" in refused("--eval-only")


class TouchesCanary:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (CANARY,)


def test_output_dir_that_is_a_file(train, tmp_path):
    blocked = tmp_path / "taken"
    blocked.write_text("mine")
    status, lines = train(output=blocked / "run")
    assert status == 2 and "is not a folder" in lines[-1]
    assert blocked.read_text() == "mine"


def test_output_dir_that_even_root_cannot_write(train):
    status, lines = train(output=Path("/proc/rcnnkit"))
    assert status == 2 and "OUTPUT_DIR /proc/rcnnkit: /proc is not writable" in lines[-1]


@pytest.mark.parametrize("flag", ["--num-machines=0", "--num-gpus=-1"])
def test_numbers_of_processes_that_are_none(refused, flag):
    assert flag.replace("=", " ") in refused(flag)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.META_ARCHITECTURE", "GeneralizedRCN", "MODEL.META_ARCHITECTURE: 'GeneralizedRCN' .*GeneralizedRCNN"),
        ("MODEL.BACKBONE.NAME", "build_resnet_fpn", "MODEL.BACKBONE.NAME: .*build_resnet_fpn_backbone"),
        ("MODEL.RPN.HEAD_NAME", "RPNHead", "MODEL.RPN.HEAD_NAME: .*StandardRPNHead"),
        ("MODEL.ROI_HEADS.NAME", "StandardRoIHeads", "MODEL.ROI_HEADS.NAME: .*StandardROIHeads"),
        ("MODEL.ROI_MASK_HEAD.NAME", "MaskHead", "MODEL.ROI_MASK_HEAD.NAME: .*MaskRCNNConvUpsampleHead"),
        ("MODEL.RESNETS.DEPTH", "51", "no model can be built from this config .*51"),
        ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosine", "SOLVER.LR_SCHEDULER_NAME: .*WarmupCosineLR"),
        ("DATALOADER.SAMPLER_TRAIN", "Training", "DATALOADER.SAMPLER_TRAIN: .*TrainingSampler"),
        ("INPUT.FORMAT", "BRG", "INPUT.FORMAT: 'BRG'.*BGR"),
        ("INPUT.MASK_FORMAT", "polygons", "INPUT.MASK_FORMAT: .*polygon"),
        ("DATALOADER.NUM_WORKERS", "-1", "DATALOADER.NUM_WORKERS: -1"),
        ("DATASETS.TRAIN", "()", "DATASETS.TRAIN: is empty"),
        ("SOLVER.MAX_ITER", "0", "SOLVER.MAX_ITER: 0"),
    ],
)
def test_values_that_no_run_can_start_from(refused, key, value, message):
    assert re.search(message, refused(key, value))


class TestGpus:
    """Whatever machine this is: it has the number of GPUs that the test says."""

    @pytest.fixture
    def gpus(self, monkeypatch):
        def pretend(count: int):
            monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
            monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)

        return pretend

    @pytest.mark.parametrize("count", [0, 2])
    def test_more_than_there_are(self, refused, gpus, count):
        gpus(count)
        assert f"this machine has {count}" in refused("--num-gpus=8")

    @pytest.mark.parametrize("count", [0, 2])
    def test_device_that_is_not_there(self, refused, gpus, count):
        gpus(count)
        assert f"--device cuda:3: this machine has {count} CUDA devices" in refused("--device=cuda:3")

    @pytest.mark.parametrize("count", [0, 2])
    def test_several_processes_on_the_cpu(self, refused, gpus, count):
        gpus(count)
        assert f"runs on cpu (this machine has {count} GPUs)" in refused("--num-gpus=2", "--device=cpu")

    def test_a_run_on_the_cpu_does_not_see_them(self, train, monkeypatch):
        seen = []
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        monkeypatch.setattr(
            "rcnnkit.engine.processes.launch", lambda *_, **__: seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        )
        assert train("--device=cpu")[0] == 0
        assert seen == [""]

    def test_a_launch_that_is_refused(self, refused, monkeypatch):
        def launch(*_, **__):
            raise ValueError("4 processes on this machine need as many GPUs,\nbut it has 2.")

        monkeypatch.setattr("rcnnkit.engine.processes.launch", launch)
        assert "cannot be started: 4 processes on this machine need as many GPUs, but it has 2." in refused()


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(train, data, tmp_path):
    weights = tmp_path / "start.pth"
    assert train("SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")[0] == 0
    checkpoint = torch.load(tmp_path / "output" / "model_final.pth", weights_only=True)
    key = next(name for name in checkpoint["model"] if name.endswith("cls_score.bias"))
    checkpoint["model"][key][:] = float("nan")
    torch.save({"model": checkpoint["model"]}, weights)
    output = tmp_path / "second"
    status, lines = train("MODEL.WEIGHTS", str(weights), "DATASETS.TEST", "()", output=output)
    assert status == 2
    own = next(line for line in lines if line.startswith("train_net.py: "))
    assert "iteration 0" in own and "loss_cls nan" in own and str(data.parent) in own and ".png" in own
    assert not list(output.glob("model_*.pth"))
    assert "Traceback" not in (output / "log.txt").read_text()
