"""tools/lazyconfig_train_net.py: a Python config runs with the flag alone; training, resuming, evaluating."""

import json
import runpy
import sys

import pytest

from detectron2.data.datasets import register_coco_instances
from tests.rcnnkit import tiny
from tests.rcnnkit.runs import forget_data, forget_loggers

CONFIG = """
from pathlib import Path
Path({canary!r}).write_text("ran")
from detectron2 import model_zoo

zoo = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
model, train, optimizer, lr_multiplier, dataloader = (
    zoo.model, zoo.train, zoo.optimizer, zoo.lr_multiplier, zoo.dataloader
)
del zoo

model.backbone.out_channels = 16
model.backbone.bottom_up.freeze_at = 0
model.backbone.bottom_up.stages.depth = 18
model.backbone.bottom_up.stages.pop("stride_in_1x1")
model.backbone.bottom_up.stem.norm = model.backbone.bottom_up.stages.norm = "BN"
model.proposal_generator.head.in_channels = 16
model.proposal_generator.update(pre_nms_topk=(50, 50), post_nms_topk=(20, 20))
model.roi_heads.num_classes = 2
model.roi_heads.box_head.input_shape.channels = model.roi_heads.mask_head.input_shape.channels = 16
model.roi_heads.box_head.fc_dims = [16]
model.roi_heads.box_predictor.input_shape.channels = 16
model.roi_heads.mask_head.conv_dims = [8, 8]

dataloader.train.dataset.names = dataloader.test.dataset.names = "lazy_tiny"
dataloader.train.update(total_batch_size=2, num_workers=0)
dataloader.train.mapper.augmentations[0].update(short_edge_length=64, max_size=64, sample_style="choice")
dataloader.test.num_workers = 0
dataloader.test.mapper.augmentations[0].update(short_edge_length=64, max_size=64)
dataloader.evaluator.output_dir = {output!r}
train.update(init_checkpoint="", output_dir={output!r}, max_iter=2, eval_period=0, log_period=1, device="cpu", seed=1)
train.checkpointer.period = 2
"""


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    register_coco_instances("lazy_tiny", {}, str(tiny.write_data_set(tmp_path / "data")), str(tmp_path / "data"))
    config = CONFIG.format(canary=str(tmp_path / "canary"), output=str(tmp_path / "output"))
    (tmp_path / "small.py").write_text(config)
    yield tmp_path
    forget_data("lazy_tiny")


@pytest.fixture
def run(repository, paths, monkeypatch, capfd):
    """Run the tool in this process; returns (exit status, last line on stderr)."""

    def run_tool(config: str, *more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lazyconfig_train_net.py", "--config-file", str(paths / config), *more])
        forget_loggers()
        capfd.readouterr()
        try:
            runpy.run_path(str(repository / "tools" / "lazyconfig_train_net.py"), run_name="__main__")
            status = 0
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        return status, (capfd.readouterr().err.strip().splitlines() or [""])[-1]

    return run_tool


def steps(output) -> list[int]:
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    return [line["iteration"] for line in lines if "total_loss" in line]


def test_a_python_config_needs_the_flag(run, paths):
    status, line = run("small.py")
    assert status == 2 and "small.py" in line and "--trust-python-config" in line
    assert not (paths / "canary").exists() and not (paths / "output").exists()


def test_trains_resumes_and_evaluates_what_it_saved(run, paths):
    output = paths / "output"
    assert run("small.py", "--trust-python-config")[0] == 0
    assert (paths / "canary").exists() and steps(output) == [0, 1]
    for name in ("config.yaml", "model_final.pth", "last_checkpoint", "log.txt", "coco_instances_results.json"):
        assert (output / name).is_file(), name
    assert run("small.py", "--trust-python-config", "--resume", "train.max_iter=3")[0] == 0
    assert steps(output) == [0, 1, 2]

    # The saved YAML is the same run, and needs no trust.
    (paths / "canary").unlink()
    (output / "coco_instances_results.json").unlink()
    status, line = run("output/config.yaml", "--eval-only", f"train.init_checkpoint={output}/model_final.pth")
    assert status == 0, line
    assert (output / "coco_instances_results.json").is_file() and not (paths / "canary").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.mkdir ['canary']", "python/object/apply"),
        ("train: {device: cpu}", "lacks model, optimizer, lr_multiplier, dataloader"),
        ("a: [", "bad.yaml"),
    ],
)
def test_bad_yaml_is_one_line(run, paths, text, message):
    (paths / "bad.yaml").write_text(text)
    status, line = run("bad.yaml")
    assert status == 2 and line.startswith("lazyconfig_train_net.py: ") and message in line
    assert not (paths / "canary").exists() and not (paths / "output").exists()


def test_a_target_outside_the_allow_list_is_one_line(run, paths):
    target = f"{{_target_: os.mkdir, path: {paths / 'canary'}}}"
    sections = "optimizer: {}\nlr_multiplier: {}\ndataloader: {}\n"
    train = f"{{device: cpu, output_dir: {paths / 'output'}}}"
    (paths / "evil.yaml").write_text(f"model: {target}\n{sections}train: {train}\n")
    status, line = run("evil.yaml")
    assert status == 2 and "'os.mkdir'" in line and "--allow-target os" in line
    assert not (paths / "canary").exists()


def test_missing_files_and_bad_overrides(run):
    assert "no such file" in run("nope.py")[1]
    assert "'train.max_iter'" in run("small.py", "--trust-python-config", "train.max_iter")[1]
