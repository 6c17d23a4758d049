"""From command-line arguments to a checked config: every refusal here happens before anything is written."""

import argparse
import logging
import os
import tempfile
from pathlib import Path
from typing import Self

import torch

from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser
from rcnnkit.config import add_rcnnkit_config, validate_config
from rcnnkit.engine.checkpointing import check_same_classes, last_checkpoint, stored_classes
from rcnnkit.engine.data_setup import register_data, set_data_keys
from rcnnkit.errors import UserError, nearest


def argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Detectron2's own flags, and `--device`."""
    parser = default_argument_parser(epilog)
    parser.add_argument(
        "--device",
        default="",
        help="cpu, cuda or cuda:N; by default MODEL.DEVICE, or the CPU where there is no such device",
    )
    return parser


def config_from_arguments(arguments: argparse.Namespace) -> CfgNode:
    """Defaults, then the config file, then the `KEY VALUE` overrides, then `--device`; checked, not yet frozen.

    Raises:
        UserError: a config file that is missing or is not YAML, an unknown key, a value of the wrong type, a device
            that is not there, a batch that the processes cannot share, a data set that is not registered.
    """
    check_counts(arguments)
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    merge_config_file(cfg, arguments.config_file)
    merge_overrides(cfg, arguments.opts)
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, arguments.device)
    check_processes(arguments.num_gpus, cfg.MODEL.DEVICE)
    if not arguments.eval_only:
        check_training(cfg)
        check_batch(cfg, max(arguments.num_gpus, 1) * arguments.num_machines)
    prepare_data(cfg, arguments)
    validate_config(cfg, arguments.eval_only)
    check_output_dir(cfg.OUTPUT_DIR)
    return cfg


class EarlyLog(logging.Handler):
    """Keeps what rcnnkit says before the log file is there: `with EarlyLog() as early: ...`, later `early.tell()`."""

    def __init__(self):
        super().__init__(logging.INFO)
        self._kept: list[logging.LogRecord] = []
        self._logger = logging.getLogger("rcnnkit")

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)

    def __enter__(self) -> Self:
        self._before = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)

    def tell(self) -> None:
        """Log it now."""
        for record in self._kept:
            logging.getLogger(record.name).handle(record)


def prepare_data(cfg: CfgNode, arguments: argparse.Namespace) -> None:
    """Register the data sets of the run and set what follows from them; compare their classes with the checkpoint's.

    Raises:
        UserError: data that cannot be used, or classes other than those that the checkpoint was trained on.
    """
    resumed = last_checkpoint(cfg.OUTPUT_DIR) if arguments.resume else ""
    weights = resumed or cfg.MODEL.WEIGHTS
    stored = stored_classes(weights) if arguments.eval_only or resumed else None
    register_data(cfg, eval_only=arguments.eval_only, model_classes=stored)
    names = cfg.DATASETS.TEST if arguments.eval_only else cfg.DATASETS.TRAIN
    if resumed and stored and not arguments.eval_only:
        classes = MetadataCatalog.get(names[0]).get("thing_classes")
        if classes:
            check_same_classes(weights, stored, classes)
    set_data_keys(cfg, explicit_keys(arguments), names)


def explicit_keys(arguments: argparse.Namespace) -> frozenset[str]:
    """Dotted keys that the config file, the files it is based on, or an override sets.

    Where an override names the data, what the files say was said about other data and does not count.
    """
    overrides = [key for key in arguments.opts or [] if key != "--"][0::2]
    names_data = ("DATASETS.TEST" if arguments.eval_only else "DATASETS.TRAIN") in overrides
    if names_data or not arguments.config_file:
        return frozenset(overrides)
    loaded = CfgNode.load_yaml_with_base(arguments.config_file, allow_unsafe=False)
    return frozenset([*overrides, *_dotted(loaded)])


def _dotted(loaded: dict, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in loaded.items():
        keys += _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def merge_config_file(cfg: CfgNode, config_file: str) -> None:
    """Merge a YAML config and the files it is based on; names the file, the key and the nearest known one."""
    if not config_file:
        return
    if not Path(config_file).is_file():
        beside = Path(config_file).parent if Path(config_file).parent.is_dir() else Path("configs")
        known = [str(path) for path in sorted(beside.rglob("*.yaml"))]
        hint = f"; near names: {', '.join(nearest(config_file, known, 3))}" if known else ""
        raise UserError(f"{config_file}: no such config file{hint}")
    if config_file.endswith(".py"):
        raise UserError(
            f"{config_file}: train_net.py reads YAML; a Python config is a program, which "
            "tools/lazyconfig_train_net.py runs with --trust-python-config"
        )
    try:
        cfg.merge_from_file(config_file, allow_unsafe=False)
    except KeyError as error:
        unknown = unknown_keys(CfgNode.load_yaml_with_base(config_file), cfg)
        if not unknown:
            raise UserError(f"{config_file}: {error.args[0]}") from error
        raise UserError(f"{config_file}: {describe_unknown_key(unknown[0], cfg)}") from error
    except FileNotFoundError as error:
        raise UserError(f"{config_file}: the file it is based on is missing: {error.filename}") from error
    except Exception as error:  # YAML's and yacs' errors share no base class; each says in words what is wrong
        raise UserError(f"{config_file}: {error or type(error).__name__}") from error


def merge_overrides(cfg: CfgNode, overrides: list[str]) -> None:
    """Merge trailing `KEY VALUE` pairs."""
    overrides = list(overrides or [])
    if overrides[:1] == ["--"]:
        overrides = overrides[1:]
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, {overrides[-1]!r} has no value")
    for key, value in zip(overrides[0::2], overrides[1::2], strict=True):
        try:
            cfg.merge_from_list([key, value])
        except Exception as error:  # yacs raises KeyError, AssertionError or ValueError, according to the depth
            if key not in flat_keys(cfg):
                raise UserError(describe_unknown_key(key, cfg)) from error
            raise UserError(f"{key} {value}: {error}") from error


def unknown_keys(loaded: dict, cfg: CfgNode, prefix: str = "") -> list[str]:
    """Dotted names in a nested dictionary of config values that the config does not have."""
    unknown = []
    for key, value in loaded.items():
        if key not in cfg:
            unknown.append(prefix + str(key))
        elif isinstance(value, dict) and isinstance(cfg[key], CfgNode):
            unknown += unknown_keys(value, cfg[key], f"{prefix}{key}.")
    return unknown


def describe_unknown_key(key: str, cfg: CfgNode) -> str:
    """One line that names an unknown config key and the known ones nearest to it."""
    return f"unknown config key {key}; nearest: {', '.join(nearest(key, flat_keys(cfg), 3))}"


def flat_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """All dotted names of a config."""
    keys: list[str] = []
    for key, value in cfg.items():
        keys += flat_keys(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]
    return keys


def check_counts(arguments: argparse.Namespace) -> None:
    """Refuse numbers of processes and machines that name none."""
    if arguments.num_gpus < 0:
        raise UserError(f"--num-gpus {arguments.num_gpus}: give the number of GPUs to use, 0 or more")
    if arguments.num_machines < 1:
        raise UserError(f"--num-machines {arguments.num_machines}: give the number of machines, 1 or more")
    if not 0 <= arguments.machine_rank < arguments.num_machines:
        raise UserError(
            f"--machine-rank {arguments.machine_rank}: the machines are numbered 0 to {arguments.num_machines - 1}"
        )


def check_training(cfg: CfgNode) -> None:
    """Refuse a training without data or steps."""
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN: is empty; name the data sets to train on, or evaluate with --eval-only")
    if cfg.SOLVER.MAX_ITER < 1:
        raise UserError(f"SOLVER.MAX_ITER: {cfg.SOLVER.MAX_ITER}; training needs at least 1 step")


def choose_device(configured: str, asked: str) -> str:
    """The device to use: what was asked for, else the configured one, else (no such device here) the CPU.

    Raises:
        UserError: `asked` names a device that is not there.
    """
    name = asked or configured
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device {name!r} is not known to torch; use cpu, cuda or cuda:N") from error
    if device.type != "cuda":
        return name
    count = _gpus()
    if (device.index or 0) < count:
        return name
    if asked:
        raise UserError(f"--device {asked}: this machine has {count} CUDA devices that torch can use; try --device cpu")
    return "cpu"


def _gpus() -> int:
    """How many GPUs torch can use. The count alone does not initialise CUDA, `is_available` may: it comes second."""
    count = torch.cuda.device_count()
    return count if count and torch.cuda.is_available() else 0


def check_processes(num_gpus: int, device: str) -> None:
    """Refuse more processes than there are GPUs; on a CPU, torchrun starts several."""
    if device.startswith("cuda") and num_gpus > _gpus():
        raise UserError(f"--num-gpus {num_gpus}: this machine has {_gpus()}; use --num-gpus {_gpus()}")
    if not device.startswith("cuda") and num_gpus > 1:
        raise UserError(
            f"--num-gpus {num_gpus}: training runs on {device} (this machine has {_gpus()} GPUs); leave the flag "
            f"out, or start CPU processes with `torchrun --nproc-per-node {num_gpus} train_net.py ...`"
        )


def check_batch(cfg: CfgNode, started: int) -> None:
    """Refuse a batch that cannot be shared evenly by the processes: torchrun's, otherwise the number `started`."""
    processes = int(os.environ.get("WORLD_SIZE", started))
    images = cfg.SOLVER.IMS_PER_BATCH
    if not cfg.SOLVER.REFERENCE_WORLD_SIZE and (images < 1 or images % processes):
        nearby = max(processes, images // processes * processes)
        raise UserError(
            f"SOLVER.IMS_PER_BATCH: {images} images cannot be shared evenly by {processes} processes; "
            f"set it to a multiple of {processes}, e.g. {nearby}"
        )


def check_output_dir(output_dir: str) -> None:
    """Files can be made in the folder, or in the nearest one above it that exists; tried out with one."""
    advice = "choose another with OUTPUT_DIR <folder>"
    if not output_dir:
        raise UserError(f"OUTPUT_DIR: is empty; {advice}")
    folder = Path(output_dir).absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"OUTPUT_DIR {output_dir}: {folder} is not a folder; {advice}")
    try:
        handle, trial = tempfile.mkstemp(prefix=".rcnnkit-", dir=folder)
    except OSError as error:
        raise UserError(f"OUTPUT_DIR {output_dir}: {folder} is not writable ({error.strerror}); {advice}") from error
    os.close(handle)
    Path(trial).unlink()
