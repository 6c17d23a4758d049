"""Hooks that look at time and memory."""

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch

from detectron2.engine.train_loop import HookBase
from detectron2.utils.file_io import PathManager


class TorchProfiler(HookBase):
    """Profiles the iterations that a predicate picks, by `torch.profiler`."""

    def __init__(
        self,
        enable_predicate: Callable[[Any], bool],
        output_dir: str,
        *,
        activities: Iterable[Any] | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        """
        Args:
            enable_predicate: trainer → whether to profile the iteration that begins.
            output_dir: folder of the traces.
            activities: as in `torch.profiler.profile`; all that the machine has by default.
            save_tensorboard: write for TensorBoard, into `<output_dir>/log/profiler-tensorboard-iter<n>`; otherwise a
                Chrome trace `<output_dir>/profiler-trace-iter<n>.json`.
        """
        self._enable_predicate = enable_predicate
        self._activities = activities
        self._output_dir = output_dir
        self._save_tensorboard = save_tensorboard
        self._profiler: Any = None

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        on_trace_ready = None
        if self._save_tensorboard:
            folder = os.path.join(self._output_dir, "log", f"profiler-tensorboard-iter{self.trainer.iter}")
            on_trace_ready = torch.profiler.tensorboard_trace_handler(folder, f"worker{_rank()}")
        self._profiler = torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=on_trace_ready,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
            with_flops=True,
        )
        self._profiler.__enter__()

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.__exit__(None, None, None)
        if not self._save_tensorboard:
            PathManager.mkdirs(self._output_dir)
            name = os.path.join(self._output_dir, f"profiler-trace-iter{self.trainer.iter}.json")
            self._profiler.export_chrome_trace(name)
        self._profiler = None


class AutogradProfiler(TorchProfiler):
    """Profiles by `torch.autograd.profiler`, into `<output_dir>/profiler-trace-iter<n>.json`."""

    def __init__(self, enable_predicate: Callable[[Any], bool], output_dir: str, *, use_cuda: bool = True) -> None:
        super().__init__(enable_predicate, output_dir, save_tensorboard=False)
        self._use_cuda = use_cuda

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        use_device = "cuda" if self._use_cuda and torch.cuda.is_available() else None
        self._profiler = torch.autograd.profiler.profile(use_device=use_device)
        self._profiler.__enter__()


class TorchMemoryStats(HookBase):
    """Logs and records the GPU memory of every `period`-th iteration, `max_runs` times; nothing on a CPU."""

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        self._logger = logging.getLogger("detectron2.engine.hooks")
        self._period = period
        self._max_runs = max_runs
        self._runs = 0

    def after_step(self) -> None:
        if self._runs >= self._max_runs or not torch.cuda.is_available():
            return
        iteration = self.trainer.iter
        if (iteration + 1) % self._period != 0 and iteration != self.trainer.max_iter - 1:
            return
        mebi = 1024.0**2
        stats = {
            "max_reserved_mem": torch.cuda.max_memory_reserved() / mebi,
            "reserved_mem": torch.cuda.memory_reserved() / mebi,
            "max_allocated_mem": torch.cuda.max_memory_allocated() / mebi,
            "allocated_mem": torch.cuda.memory_allocated() / mebi,
        }
        self._logger.info(f"iter: {iteration} " + " ".join(f"{name}: {value:.0f}MB" for name, value in stats.items()))
        for name, value in stats.items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        self._runs += 1
        if self._runs == self._max_runs:
            self._logger.info(torch.cuda.memory_summary())
        torch.cuda.reset_peak_memory_stats()


def _rank() -> int:
    return (
        torch.distributed.get_rank() if torch.distributed.is_available() and torch.distributed.is_initialized() else 0
    )
