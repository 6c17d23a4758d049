"""`rcnnkit quickstart`: data, training, evaluation and a page with pictures, in minutes on a CPU.

What is there is reused: a finished training is not repeated, an interrupted one goes on from its last checkpoint.

    <output>/index.html              the page
    <output>/curves.png, pictures/   what it shows
    <output>/results.json            COCO's numbers
    <output>/training/               the run as train_net.py would have written it
"""

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.engine import default_setup
from rcnnkit.cli.quickstart_page import results_tables, write_page
from rcnnkit.config import add_rcnnkit_config, validate_config
from rcnnkit.engine.setup import check_output_dir, choose_device, merge_config_file, merge_overrides
from rcnnkit.engine.trainer import Trainer
from rcnnkit.engine_choice import engine_line
from rcnnkit.errors import UserError
from rcnnkit.files import write_bytes

CONFIG = "quick/mask_rcnn_R_18_FPN_shapes.yaml"
# Keys that may differ between the run that is there and this one: they do not change what is learned.
_FREE_KEYS = ("OUTPUT_DIR", "VIS_PERIOD")
logger = logging.getLogger("rcnnkit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="output/quickstart", type=Path, help="folder (default: %(default)s)")
    parser.add_argument("--device", default="", help="cpu, cuda or cuda:N (default: the config's)")
    parser.add_argument("--config-file", default="", help=f"default: configs/{CONFIG}")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides")


def run(arguments: argparse.Namespace) -> int:
    """Train, evaluate, report; each part only where its result is missing."""
    began = time.perf_counter()
    cfg = _config(arguments)
    output: Path = arguments.output
    run_folder = Path(cfg.OUTPUT_DIR)
    _check_same_run(cfg, run_folder)
    if not logging.getLogger("rcnnkit").handlers:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        logging.getLogger().setLevel(logging.WARNING)
        logger.setLevel(logging.INFO)
    logger.info(engine_line())
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        DatasetCatalog.get(name)  # drawn on first use
    model_file = run_folder / "model_final.pth"
    if model_file.is_file():
        logger.info("training: finished before, reusing %s (delete %s to train again)", model_file, run_folder)
    else:
        _train(cfg)
    results = _evaluate(cfg, model_file, output / "results.json")
    index = write_page(cfg, results, output)
    for header_and_rows in results_tables(cfg, results):
        print("\n" + header_and_rows)
    print(f"\n{index}: the report ({time.perf_counter() - began:.0f} s)")
    return 0


def find_config(name: str) -> Path:
    """A shipped config by its name below `configs/`: in the checkout, or beside the installed model zoo."""
    checkout = Path(__file__).resolve().parents[3] / "configs" / name
    if checkout.is_file():
        return checkout
    from detectron2 import model_zoo

    try:
        return Path(model_zoo.get_config_file(name))
    except RuntimeError as error:
        raise UserError(f"configs/{name}: not found in this installation; name a file with --config-file") from error


def _config(arguments: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    merge_config_file(cfg, arguments.config_file or str(find_config(CONFIG)))
    merge_overrides(cfg, arguments.opts)
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, arguments.device)
    cfg.OUTPUT_DIR = str(arguments.output / "training")
    validate_config(cfg)
    check_output_dir(cfg.OUTPUT_DIR)
    cfg.freeze()
    return cfg


def _check_same_run(cfg: CfgNode, run_folder: Path) -> None:
    """Refuse a folder that holds the training of another config."""
    recorded = run_folder / "config.yaml"
    if not recorded.is_file():
        return
    before, now = _flat(yaml.safe_load(recorded.read_text(encoding="utf-8")) or {}), _flat(yaml.safe_load(cfg.dump()))
    differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key) and key not in _FREE_KEYS)
    if differing:
        key = differing[0]
        raise UserError(
            f"{recorded}: holds another training ({key} is {before.get(key)!r} there, {now.get(key)!r} now; "
            f"{len(differing)} keys differ): choose another --output, or delete {run_folder}"
        )


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _train(cfg: CfgNode) -> None:
    last = Path(cfg.OUTPUT_DIR) / "last_checkpoint"
    resume = last.is_file()
    if resume:
        logger.info("training: interrupted before, going on from %s", last.read_text(encoding="utf-8").strip())
    default_setup(cfg, argparse.Namespace(config_file="", eval_only=False, opts=[]))
    # A process on two cores gains nothing from more threads than cores.
    torch.set_num_threads(min(torch.get_num_threads(), os.cpu_count() or 1))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def _evaluate(cfg: CfgNode, model_file: Path, results_file: Path) -> dict[str, dict[str, float]]:
    """COCO's numbers of the trained model: those on file when they are of this very model, else measured now."""
    stamp = {"model": model_file.name, "bytes": model_file.stat().st_size, "changed": model_file.stat().st_mtime_ns}
    if results_file.is_file():
        try:
            stored = json.loads(results_file.read_text(encoding="utf-8"))
            if stored["of"] == stamp:
                logger.info("evaluation: done before, reusing %s", results_file)
                return stored["results"]
        except (ValueError, KeyError, TypeError):
            logger.info("evaluation: %s cannot be read, evaluating again", results_file)
    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model).load(str(model_file))
    results = Trainer.test(cfg, model)
    if len(cfg.DATASETS.TEST) == 1:
        results = {task: dict(values) for task, values in results.items()}
    else:
        raise UserError(f"DATASETS.TEST: {cfg.DATASETS.TEST}; quickstart reports on exactly one data set")
    plain = {task: {name: float(value) for name, value in values.items()} for task, values in results.items()}
    write_bytes(results_file, json.dumps({"of": stamp, "results": plain}, indent=1).encode())
    return plain
