"""The evaluation loop: a model over a data loader, its outputs into one or many evaluators."""

from __future__ import annotations

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.logger import log_every_n_seconds

_WARMUP_BATCHES = 5
_LOG_PERIOD_SECONDS = 5


class DatasetEvaluator:
    """Base class of evaluators: sees every (inputs, outputs) pair of one inference pass and summarises them.

    `inference_on_dataset` calls `reset()` once, `process()` for each batch and `evaluate()` at the end.
    """

    def reset(self) -> None:
        """Forget what earlier passes left, so that a new pass can start."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Take in one batch.

        Args:
            inputs: what the model was called with, usually `list[dict]`, one dict for each image.
            outputs: what the model returned, usually `list[dict]` in the same order.
        """

    def evaluate(self) -> Any:
        """Summarise the pass.

        Returns:
            A dict `{task: {metric: float}}`, or None in processes that have nothing to report.
        """


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators behind the interface of one; their result dicts are merged."""

    def __init__(self, evaluators: Iterable[DatasetEvaluator]):
        super().__init__()
        self._evaluators = list(evaluators)

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> OrderedDict[str, Any]:
        """Merge the results of all evaluators, in their order.

        Raises:
            AssertionError: two evaluators report the same key.
        """
        results: OrderedDict[str, Any] = OrderedDict()
        for evaluator in self._evaluators:
            result = evaluator.evaluate()
            if not is_main_process() or result is None:
                continue
            for key, value in result.items():
                assert key not in results, f"Different evaluators produce results with the same key {key}"
                results[key] = value
        return results


class _LoopClock:
    """Seconds spent in data loading, inference and evaluation since the warm-up batches."""

    def __init__(self, num_batches: int, num_devices: int):
        self.num_batches = num_batches
        self.num_devices = num_devices
        self.num_warmup = min(_WARMUP_BATCHES, num_batches - 1)
        self.logger = logging.getLogger(__name__)
        self.restart()

    def restart(self) -> None:
        self.start = time.perf_counter()
        self.data = self.compute = self.eval = 0.0

    def report(self, index: int) -> None:
        """One progress line at most every few seconds, once the averages mean something (or batches are slow)."""
        done = index + 1 - self.num_warmup * int(index >= self.num_warmup)
        compute = self.compute / done
        if index < self.num_warmup * 2 and compute <= _LOG_PERIOD_SECONDS:
            return
        total = (time.perf_counter() - self.start) / done
        eta = datetime.timedelta(seconds=int(total * (self.num_batches - index - 1)))
        log_every_n_seconds(
            logging.INFO,
            f"Inference done {index + 1}/{self.num_batches}. "
            f"Dataloading: {self.data / done:.4f} s/iter. "
            f"Inference: {compute:.4f} s/iter. "
            f"Eval: {self.eval / done:.4f} s/iter. "
            f"Total: {total:.4f} s/iter. "
            f"ETA={eta}",
            n=_LOG_PERIOD_SECONDS,
            name=__name__,
        )

    def report_total(self) -> None:
        total = time.perf_counter() - self.start
        measured = max(self.num_batches - self.num_warmup, 1)
        self.logger.info(
            f"Total inference time: {datetime.timedelta(seconds=total)} "
            f"({total / measured:.6f} s / iter per device, on {self.num_devices} devices)"
        )
        self.logger.info(
            f"Total inference pure compute time: {datetime.timedelta(seconds=int(self.compute))} "
            f"({self.compute / measured:.6f} s / iter per device, on {self.num_devices} devices)"
        )


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], Any]] | None = None,
) -> Any:
    """Run the model over the data loader in eval mode without gradients, and evaluate its outputs.

    The log tells the time of data loading, inference and evaluation apart; the first batches are not measured.

    Args:
        model: a callable from a batch of the loader to outputs. An `nn.Module` is put in eval mode during the
            pass and restored afterwards.
        data_loader: an iterable of batches that has a length.
        evaluator: one evaluator, a list of them, or None to only time the model.
        callbacks: functions without arguments, by name: `on_start`, `before_inference`, `after_inference`, `on_end`.

    Returns:
        What `evaluator.evaluate()` returns; an empty dict where that is None.
    """
    clock = _LoopClock(len(data_loader), get_world_size())
    clock.logger.info(f"Start inference on {clock.num_batches} batches")
    if evaluator is None or isinstance(evaluator, list):
        evaluator = DatasetEvaluators(evaluator or [])
    evaluator.reset()
    call = _caller(callbacks)

    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())

        tick = time.perf_counter()
        call("on_start")
        for index, inputs in enumerate(data_loader):
            data_seconds = time.perf_counter() - tick
            if index == clock.num_warmup:
                clock.restart()
                data_seconds = 0.0
            clock.data += data_seconds

            tick = time.perf_counter()
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            clock.compute += time.perf_counter() - tick

            tick = time.perf_counter()
            evaluator.process(inputs, outputs)
            clock.eval += time.perf_counter() - tick

            clock.report(index)
            tick = time.perf_counter()
        call("on_end")

    clock.report_total()
    results = evaluator.evaluate()
    return {} if results is None else results


def _caller(callbacks: Mapping[str, Callable[[], Any]] | None) -> Callable[[str], None]:
    known = callbacks or {}

    def call(name: str) -> None:
        function = known.get(name)
        if function is not None:
            function()

    return call


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Put `model` in eval mode; give it back in the mode it had."""
    training_mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training_mode)
