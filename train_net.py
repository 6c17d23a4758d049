"""Train or evaluate: `python train_net.py --config-file configs/... [--eval-only] [--resume] [KEY VALUE ...]`."""

import logging
import sys

try:
    from rcnnkit.engine_choice import engine_line  # importing the package chooses the engine
except ImportError as error:
    print(f"train_net.py: {error}", file=sys.stderr)
    sys.exit(2)

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from rcnnkit.data.preflight import check_datasets
from rcnnkit.engine.checkpointing import check_weights, last_checkpoint
from rcnnkit.engine.model_check import check_model
from rcnnkit.engine.processes import check_joined, is_first_process, prepare_device, start_processes, tell_and_stop
from rcnnkit.engine.setup import EarlyLog, argument_parser, config_from_arguments
from rcnnkit.engine.trainer import Trainer
from rcnnkit.errors import UserError


def check_inputs(arguments, cfg) -> None:
    """Refuse bad input before any process is started and anything is written."""
    check_model(cfg)
    train = () if arguments.eval_only else cfg.DATASETS.TRAIN
    check_datasets(
        [*train, *cfg.DATASETS.TEST],
        cfg.RCNNKIT.CHECK_IMAGES,
        masks_learnt=train if cfg.MODEL.MASK_ON else (),
        masks_judged=cfg.DATASETS.TEST if cfg.MODEL.MASK_ON else (),
    )
    resumed = last_checkpoint(cfg.OUTPUT_DIR) if arguments.resume else ""
    whole = bool(resumed) or arguments.eval_only
    goes_on = bool(resumed) and not arguments.eval_only
    check_weights(cfg, resumed or cfg.MODEL.WEIGHTS, whole=whole, resumed=goes_on)


def setup(arguments):
    """The frozen config; logging, seeds and the output folder are ready."""
    with EarlyLog() as early:
        cfg = config_from_arguments(arguments)
    cfg.freeze()
    default_setup(cfg, arguments)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="rcnnkit")
    early.tell()
    logging.getLogger("detectron2").info(engine_line())
    return cfg


def run(arguments):
    """Train or evaluate in this process; returns the evaluation results."""
    cfg = setup(arguments)
    if not arguments.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=arguments.resume)
        return trainer.train()
    model = build_model(cfg)
    DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=arguments.resume)
    results = Trainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(Trainer.test_with_TTA(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def process(arguments) -> None:
    """One process of a run: bad input is one line and exit status 2."""
    try:
        check_joined()
        run(arguments)
    except UserError as error:
        tell_and_stop("train_net.py", error)


def main() -> None:
    arguments = argument_parser().parse_args()
    try:
        cfg = config_from_arguments(arguments)
        prepare_device(cfg.MODEL.DEVICE)
        if is_first_process():
            check_inputs(arguments, cfg)
        start_processes(process, arguments)
    except UserError as error:
        tell_and_stop("train_net.py", error)


if __name__ == "__main__":
    main()
