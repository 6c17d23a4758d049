"""All hooks under their public path; each kind has a file of its own."""

from detectron2.engine.evaluation_hooks import BestCheckpointer, EvalHook, PreciseBN
from detectron2.engine.profiling_hooks import AutogradProfiler, TorchMemoryStats, TorchProfiler
from detectron2.engine.progress_hooks import (
    CallbackHook,
    IterationTimer,
    LRScheduler,
    PeriodicCheckpointer,
    PeriodicWriter,
)
from detectron2.engine.train_loop import HookBase

__all__ = [
    "AutogradProfiler",
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "HookBase",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "TorchMemoryStats",
    "TorchProfiler",
]
