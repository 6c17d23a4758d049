"""Runs of train_net.py on a model so small that a step takes a fraction of a second, in this process or in others."""

import json
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import setup_logger

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("config.yaml", "log.txt", "metrics.json", "last_checkpoint", "model_final.pth",
         "inference/coco_instances_results.json")  # fmt: skip

# Everything that a run depends on, so that no change of a shipped recipe reaches the tests. Random weights under frozen
# norms: the same on one process and on several.
RECIPE = """
_BASE_: {base!r}
MODEL:
  WEIGHTS: ""
  PIXEL_STD: [57.0, 57.0, 57.0]  # frozen norms leave the scale of the input as it is
  BACKBONE: {{FREEZE_AT: 0}}
  RESNETS: {{DEPTH: 18, STEM_OUT_CHANNELS: 8, RES2_OUT_CHANNELS: 64, NORM: "FrozenBN"}}
  FPN: {{OUT_CHANNELS: 16}}
  ANCHOR_GENERATOR: {{SIZES: [[8], [16], [32], [64], [96]]}}
  RPN: {{PRE_NMS_TOPK_TRAIN: 100, PRE_NMS_TOPK_TEST: 50, POST_NMS_TOPK_TRAIN: 40, POST_NMS_TOPK_TEST: 20}}
  ROI_HEADS: {{BATCH_SIZE_PER_IMAGE: 32, SCORE_THRESH_TEST: 0.0}}
  ROI_BOX_HEAD: {{FC_DIM: 32}}
  ROI_MASK_HEAD: {{NUM_CONV: 1, CONV_DIM: 8}}
  ROI_KEYPOINT_HEAD: {{CONV_DIMS: [8]}}
INPUT: {{MIN_SIZE_TRAIN: [120], MAX_SIZE_TRAIN: 160, MIN_SIZE_TEST: 120, MAX_SIZE_TEST: 160}}
DATALOADER: {{NUM_WORKERS: 0}}
SOLVER: {{IMS_PER_BATCH: 2, BASE_LR: 0.002, WARMUP_ITERS: 2, MAX_ITER: 4, CHECKPOINT_PERIOD: 2, STEPS: []}}
TEST: {{DETECTIONS_PER_IMAGE: 20}}
SEED: 1
"""


def write_recipe(folder: Path) -> Path:
    """Write the config of the small model; returns its file."""
    path = folder / "small.yaml"
    path.write_text(RECIPE.format(base=str(REPOSITORY / "configs" / "Base-RCNN-FPN.yaml")))
    return path


def train_net(folder: Path, data: dict[str, tuple[Path, Path]], *more: str) -> list[str]:
    """Arguments of train_net.py: the small model on `data` (name → JSON, images; the first trains, the last tests).

    Flags and overrides in `more` win; outputs go to `folder/output`.
    """
    entries = [{"name": name, "json": str(file), "images": str(images)} for name, (file, images) in data.items()]
    names = list(data)
    flags = [argument for argument in more if argument.startswith("--")]
    overrides = [argument for argument in more if not argument.startswith("--")]
    return [
        *("--config-file", str(write_recipe(folder)), *flags, "DATASETS.CUSTOM", repr(entries)),
        *("DATASETS.TRAIN", repr((names[0],)), "DATASETS.TEST", repr((names[-1],))),
        *("OUTPUT_DIR", str(folder / "output"), *overrides),
    ]


def run_here(arguments: list[str]) -> int:
    """Run train_net.py in this process; returns its exit status."""
    forget_loggers()
    with pytest.MonkeyPatch.context() as patch:
        keep_gpus(patch)
        patch.setattr(sys, "argv", ["train_net.py", *arguments])
        try:
            runpy.run_path(str(REPOSITORY / "train_net.py"), run_name="__main__")
        except SystemExit as stopped:
            return int(stopped.code or 0)
    return 0


def keep_gpus(patch: pytest.MonkeyPatch) -> None:
    """A run on the CPU hides the GPUs from its process; when `patch` is undone they are back for other tests."""
    variable = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(variable)
    patch.setenv(variable, before or "")
    if before is None:
        patch.delenv(variable)


def forget_loggers() -> None:
    """Drop the handlers of an earlier run in this process; their streams belong to another test."""
    setup_logger.cache_clear()
    for name in (None, "detectron2", "fvcore", "rcnnkit"):
        logger = logging.getLogger(name)
        for handler in [h for h in logger.handlers if type(h) in (logging.StreamHandler, logging.FileHandler)]:
            logger.removeHandler(handler)


def forget_data(*names: str) -> None:
    """Take data sets out of the catalogs, so that another test can register them anew."""
    for name in names:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def start(*command: str, engine: str | None = None) -> subprocess.Popen:
    """Start Python with these arguments in a process of its own, on one core, by default with this process's engine."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if engine is not None:
        environment["RCNNKIT_ENGINE"] = engine
    if engine == "detectron2":
        paths = (os.environ.get("RCNNKIT_STOCK"), os.environ.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, timeout: float = 240) -> tuple[int, str, str]:
    """Wait for a process: exit status, stdout, stderr."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
    return process.returncode, out, err


def metrics(output: Path) -> list[dict]:
    """The lines of metrics.json that tell of a training step."""
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [line for line in lines if "total_loss" in line]


def missing_files(output: Path, *more: str) -> list[str]:
    """Those of the files of a finished run that are not there or are empty."""
    absent = [name for name in (*FILES, *more) if not (output / name).is_file() or not (output / name).stat().st_size]
    return absent + ([] if list(output.glob("events.out.tfevents.*")) else ["events.out.tfevents.*"])
