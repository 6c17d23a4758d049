"""Train or evaluate a model: `python train_net.py --config-file configs/... [--eval-only] [--resume] [KEY VALUE ...]`."""

import logging
import os
import sys
import time

try:
    import rcnnkit
except ImportError as error:
    print(f"train_net.py: {error}", file=sys.stderr)
    sys.exit(2)

from torch.multiprocessing import ProcessExitedException

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import default_setup, launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from rcnnkit.data.preflight import check_datasets
from rcnnkit.engine.checkpointing import check_weights, last_checkpoint
from rcnnkit.engine.setup import argument_parser, check_joined, config_from_arguments
from rcnnkit.engine.trainer import Trainer
from rcnnkit.engine_choice import engine_line
from rcnnkit.errors import UserError

SECONDS_FOR_THE_MAIN_PROCESS = 3


def check_inputs(arguments) -> None:
    """Refuse bad input before any process is started and anything is written."""
    cfg = config_from_arguments(arguments)
    test_sets = list(cfg.DATASETS.TEST)
    check_datasets(test_sets if arguments.eval_only else [*cfg.DATASETS.TRAIN, *test_sets], cfg.RCNNKIT.CHECK_IMAGES)
    resumed = last_checkpoint(cfg.OUTPUT_DIR) if arguments.resume else ""
    check_weights(cfg, resumed or cfg.MODEL.WEIGHTS, whole=bool(resumed) or arguments.eval_only)


def setup(arguments):
    """The frozen config; logging, seeds and the output folder are ready."""
    cfg = config_from_arguments(arguments)
    cfg.freeze()
    default_setup(cfg, arguments)
    logging.getLogger("detectron2").info(engine_line())
    return cfg


def run(arguments):
    """Train or evaluate in this process; returns the evaluation results."""
    cfg = setup(arguments)
    if not arguments.eval_only:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=arguments.resume)
        return trainer.train()
    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=arguments.resume)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


def process(arguments) -> None:
    """One process of a run: bad input is one line and exit status 2."""
    try:
        check_joined()
        run(arguments)
    except UserError as error:
        if os.environ.get("RANK", "0") != "0" or not comm.is_main_process():
            # Where the main process stops for the same reason, its line is enough and the launcher ends this process.
            time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
        print(f"train_net.py: {error}", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    arguments = argument_parser().parse_args()
    try:
        if os.environ.get("RANK", "0") == "0":
            check_inputs(arguments)
    except UserError as error:
        print(f"train_net.py: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        launch(
            process,
            max(arguments.num_gpus, 1),
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            args=(arguments,),
        )
    except ProcessExitedException as stopped:  # a process that was started here has said why
        sys.exit(stopped.exit_code)


if __name__ == "__main__":
    main()
