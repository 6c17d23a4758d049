"""The defaults under their public path; each has a file of its own."""

from detectron2.engine.argument_parser import default_argument_parser
from detectron2.engine.default_predictor import DefaultPredictor
from detectron2.engine.default_setup import (
    _highlight,
    _set_float32_precision,
    _try_get_key,
    default_setup,
    default_writers,
)
from detectron2.engine.default_trainer import DefaultTrainer
from detectron2.engine.parallel import create_ddp_model
from detectron2.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = [
    "AMPTrainer",
    "DefaultPredictor",
    "DefaultTrainer",
    "HookBase",
    "SimpleTrainer",
    "TrainerBase",
    "_highlight",
    "_set_float32_precision",
    "_try_get_key",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]
