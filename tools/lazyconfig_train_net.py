"""Train or evaluate from a lazy config: `python tools/lazyconfig_train_net.py --config-file x.py --trust-python-config
[--eval-only] [--resume] [key.path=value ...]`.

The config holds `model`, `optimizer`, `lr_multiplier`, `dataloader` and `train`, as those in configs/common do. A
Python config is a program: it runs only with --trust-python-config. A YAML config (the `config.yaml` of an earlier run)
runs nothing; what its `_target_`s may name is limited, see --allow-target.
"""

import argparse
import logging
import sys
from pathlib import Path

import rcnnkit  # noqa: F401  chooses the engine
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import (
    AMPTrainer,
    SimpleTrainer,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
    hooks,
)
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from rcnnkit.engine.processes import prepare_device, start_processes
from rcnnkit.engine.setup import check_counts, check_processes, choose_device
from rcnnkit.errors import UserError

SECTIONS = ("model", "optimizer", "lr_multiplier", "dataloader", "train")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Detectron2's flags, the two that say whom to trust, and --device."""
    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument(
        "--trust-python-config", action="store_true", help="run the Python config file, and those that it imports"
    )
    parser.add_argument(
        "--allow-target",
        action="append",
        default=[],
        metavar="NAME",
        help="a package that _target_s given by name may lead into, besides Detectron2's, torch.nn and the like",
    )
    parser.add_argument("--device", default="", help="cpu, cuda or cuda:N; by default train.device, or the CPU")
    return parser.parse_args(arguments)


def load_config(arguments: argparse.Namespace):
    """The config with its overrides.

    Raises:
        UserError: a Python file without the flag, a missing file or section, an override that cannot be read.
    """
    path = arguments.config_file
    if not Path(path).is_file():
        raise UserError(f"--config-file {path!r}: no such file")
    if path.endswith(".py") and not arguments.trust_python_config:
        raise UserError(
            f"{path}: a Python config is a program and was not run; read it and pass --trust-python-config to run it"
        )
    if arguments.allow_target:
        from detectron2.config.targets import allow_targets  # the built-in engine's

        allow_targets(*arguments.allow_target)
    try:
        cfg = LazyConfig.apply_overrides(LazyConfig.load(path), arguments.opts)
    except (ValueError, KeyError, ImportError, SyntaxError, NotImplementedError) as error:
        raise UserError(f"{path}: {one_line(error)}") from error
    missing = [name for name in SECTIONS if name not in cfg]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; configs/common has examples of each")
    cfg.train.device = choose_device(cfg.train.device, arguments.device)
    check_processes(arguments.num_gpus, cfg.train.device)
    return cfg


def one_line(error: Exception) -> str:
    """An error's text without line breaks."""
    text = error.args[0] if isinstance(error, KeyError) else error
    return " ".join(str(text).split())


def build(section):
    """What a section of the config describes; UserError for a `_target_` outside the allow-list."""
    try:
        return instantiate(section)
    except ValueError as error:
        if "allow-list" in str(error):
            raise UserError(one_line(error)) from error
        raise


def evaluate(cfg, model):
    """The results of `dataloader.evaluator` on `dataloader.test`; None where the config has no evaluator."""
    if "evaluator" not in cfg.dataloader:
        return None
    results = inference_on_dataset(model, build(cfg.dataloader.test), build(cfg.dataloader.evaluator))
    print_csv_format(results)
    return results


def train(cfg, resume: bool) -> None:
    """Train from `train.init_checkpoint`, or with `resume` from the last checkpoint; evaluates on the way."""
    model = build(cfg.model).to(cfg.train.device)
    logging.getLogger("detectron2").info(f"Model:\n{model}")
    cfg.optimizer.params.model = model
    optimizer = build(cfg.optimizer)
    loader = build(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    trainer = (AMPTrainer if cfg.train.amp.enabled else SimpleTrainer)(model, loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    main_process = comm.is_main_process()
    writers = default_writers(cfg.train.output_dir, cfg.train.max_iter) if main_process else []
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=build(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer) if main_process else None,
            hooks.EvalHook(cfg.train.eval_period, lambda: evaluate(cfg, model)),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period) if main_process else None,
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    continues = resume and checkpointer.has_checkpoint()
    trainer.train(trainer.iter + 1 if continues else 0, cfg.train.max_iter)


def run(arguments: argparse.Namespace) -> None:
    """Train or evaluate in this process."""
    cfg = load_config(arguments)
    default_setup(cfg, arguments)
    if not arguments.eval_only:
        train(cfg, arguments.resume)
        return
    model = create_ddp_model(build(cfg.model).to(cfg.train.device))
    DetectionCheckpointer(model, cfg.train.output_dir).resume_or_load(
        cfg.train.init_checkpoint, resume=arguments.resume
    )
    evaluate(cfg, model)


def main() -> None:
    arguments = parse_arguments()
    try:
        check_counts(arguments)
        prepare_device(load_config(arguments).train.device)
        start_processes(run, arguments)
    except UserError as error:
        print(f"lazyconfig_train_net.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
