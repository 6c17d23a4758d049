"""What a training script does first: folder, log, environment, config copy, seed; and the default writers."""

import argparse
import logging
import os
import sys
from typing import Any

import torch

from detectron2.config import CfgNode, LazyConfig
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from detectron2.utils.whole_file import write_whole


def default_setup(cfg: Any, args: argparse.Namespace) -> None:
    """Prepares a run: OUTPUT_DIR with `log.txt` and `config.yaml`, environment in the log, random seeds, cudnn.

    Args:
        cfg: a `CfgNode`, or an omegaconf with "train.output_dir", "train.seed" and so on.
        args: of `default_argument_parser`.
    """
    output_dir = _try_get_key(cfg, "OUTPUT_DIR", "output_dir", "train.output_dir")
    if comm.is_main_process() and output_dir:
        PathManager.mkdirs(output_dir)

    rank = comm.get_rank()
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(output_dir, distributed_rank=rank)
    logger.info(f"Rank of current process: {rank}. World size: {comm.get_world_size()}")
    logger.info("Environment info:\n" + collect_env_info())
    logger.info(f"Command line arguments: {args}")
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file, "r") as file:
            text = _highlight(file.read(), config_file)
        logger.info(f"Contents of args.config_file={config_file}:\n{text}")
    if comm.is_main_process() and output_dir:
        _save_config(cfg, output_dir, logger)

    # every process draws its own numbers
    seed = _try_get_key(cfg, "SEED", "train.seed", default=-1)
    seed_all_rng(None if seed < 0 else seed + rank)
    # trying out algorithms pays in training only, where shapes repeat
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = _try_get_key(cfg, "CUDNN_BENCHMARK", "train.cudnn_benchmark", default=False)
    precision = _try_get_key(cfg, "FLOAT32_PRECISION", "train.float32_precision", default="")
    if precision:
        logger.info(f"Set float32 matmul precision to {precision}")
        _set_float32_precision(precision)


def _save_config(cfg: Any, output_dir: str, logger: logging.Logger) -> None:
    """Writes the whole config to `config.yaml`, which loads as a config file."""
    path = os.path.join(output_dir, "config.yaml")
    if not isinstance(cfg, CfgNode):
        LazyConfig.save(cfg, path)
        logger.info(f"Full config saved to {path}")
        return
    text = cfg.dump()
    logger.info("Running with full config:\n" + _highlight(text, ".yaml"))
    if "://" in path:
        with PathManager.open(path, "w") as file:
            file.write(text)
    else:
        write_whole(path, lambda file: file.write(text.encode()))
    logger.info(f"Full config saved to {path}")


def _highlight(code: str, filename: str) -> str:
    """Code with terminal colours, where pygments is installed and a terminal shows them."""
    if not sys.stdout.isatty():
        return code
    try:
        import pygments
        from pygments.formatters import Terminal256Formatter
        from pygments.lexers import Python3Lexer, YamlLexer
    except ImportError:
        return code
    lexer = Python3Lexer() if filename.endswith(".py") else YamlLexer()
    return pygments.highlight(code, lexer, Terminal256Formatter(style="monokai"))


def _try_get_key(cfg: Any, *keys: str, default: Any = None) -> Any:
    """The value of the first of some dotted keys that the config has."""
    for key in keys:
        node = cfg
        for part in key.split("."):
            if not hasattr(node, "keys") or part not in node:
                break
            node = node[part]
        else:
            return node
    return default


def _set_float32_precision(precision: str = "high") -> None:
    """How exact float32 matrix products are on GPUs: "highest", "high" (TF32) or "medium" (bfloat16)."""
    torch.set_float32_matmul_precision(precision)


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Writers to the terminal, to `metrics.json` and to TensorBoard's files.

    Args:
        output_dir: folder of the files; made if absent.
        max_iter: for the time that remains.
    """
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]
