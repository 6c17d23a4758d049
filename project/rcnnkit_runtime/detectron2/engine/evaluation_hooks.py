"""Hooks that measure the model during training and act on the result."""

import itertools
import logging
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats

from detectron2.engine.train_loop import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventStorage


class EvalHook(HookBase):
    """Runs an evaluation every so many iterations and after the training, and records its numbers."""

    def __init__(self, eval_period: int, eval_function: Callable[[], Any], eval_after_train: bool = True) -> None:
        """
        Args:
            eval_period: iterations between evaluations; 0 for none during training.
            eval_function: gives a nested dict of numbers, or nothing. All processes call it.
            eval_after_train: evaluate after the last iteration, if the training gets there.
        """
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        results = self._func()
        if results:
            assert isinstance(results, dict), f"Eval function must return a dict. Got {results} instead."
            flat = flatten_results_dict(results)
            for name, value in flat.items():
                try:
                    flat[name] = float(value)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"[EvalHook] eval_function should return a nested dict of float. Got '{name}: {value}' instead."
                    ) from error
            self.trainer.storage.put_scalars(**flat, smoothing_hint=False)
        # processes evaluate for different times: let none wait in a collective of the next step
        comm.synchronize()

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        # the evaluation of the last iteration is after_train's
        if self._period > 0 and next_iter % self._period == 0 and next_iter != self.trainer.max_iter:
            self._do_eval()

    def after_train(self) -> None:
        # not after an exception
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._do_eval()
        # the function likely closes over the trainer: let go of it
        del self._func


class BestCheckpointer(HookBase):
    """Saves the model whenever an evaluation metric is better than ever; goes after the `EvalHook`."""

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        """
        Args:
            eval_period: that of the `EvalHook`.
            checkpointer: saves.
            val_metric: name in the storage, e.g. "bbox/AP50".
            mode: "max" or "min", which is better.
            file_prefix: of the file name.
        """
        self._logger = logging.getLogger("detectron2.engine.hooks")
        self._period = eval_period
        self._val_metric = val_metric
        assert mode in ("max", "min"), (
            f"Mode \"{mode}\" to `BestCheckpointer` is unknown. It should be one of ('max', 'min')."
        )
        self._compare = operator.gt if mode == "max" else operator.lt
        self._checkpointer = checkpointer
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _update_best(self, val: float, iteration: int) -> bool:
        if math.isnan(val) or math.isinf(val):
            return False
        self.best_metric = val
        self.best_iter = iteration
        return True

    def _best_checking(self) -> None:
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            self._logger.warning(
                f"Given val metric {self._val_metric} does not seem to be computed/stored. "
                "Will not be checkpointing based on it."
            )
            return
        value, iteration = latest
        if self.best_metric is None:
            if self._update_best(value, iteration):
                self._save()
                self._logger.info(f"Saved first model at {self.best_metric:0.5f} @ {self.best_iter} steps")
        elif self._compare(value, self.best_metric) and math.isfinite(value):
            previous = f"{self.best_metric:0.5f} @ iteration {self.best_iter}"
            self._update_best(value, iteration)
            self._save()
            self._logger.info(
                f"Saved best model as latest eval score for {self._val_metric} is {value:0.5f}, "
                f"better than last best score {previous}."
            )
        else:
            self._logger.info(
                f"Not saving as latest eval score for {self._val_metric} is {value:0.5f}, "
                f"not better than best score {self.best_metric:0.5f} @ iteration {self.best_iter}."
            )

    def _save(self) -> None:
        self._checkpointer.save(self._file_prefix, iteration=self.best_iter)

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        if self._period > 0 and next_iter % self._period == 0 and next_iter != self.trainer.max_iter:
            self._best_checking()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._best_checking()


class PreciseBN(HookBase):
    """Replaces the running statistics of batch normalisation by averages over many batches (Wu and Johnson, "Rethinking
    'Batch' in BatchNorm", arXiv 2105.07576). Goes before the `EvalHook`."""

    def __init__(self, period: int, model: torch.nn.Module, data_loader: Iterable[Any], num_iter: int) -> None:
        """
        Args:
            period: iterations between updates; 0 for one after the last iteration only.
            model: whose layers in training mode are updated.
            data_loader: training batches.
            num_iter: batches to average over.
        """
        self._logger = logging.getLogger("detectron2.engine.hooks")
        self._disabled = len(get_bn_modules(model)) == 0
        if self._disabled:
            self._logger.info("PreciseBN is disabled because model does not contain BN layers in training mode.")
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._period = period
        self._data_iter: Any = None

    def after_step(self) -> None:
        next_iter = self.trainer.iter + 1
        is_final = next_iter == self.trainer.max_iter
        if is_final or (self._period > 0 and next_iter % self._period == 0):
            self.update_stats()

    def update_stats(self) -> None:
        """Updates now."""
        if self._disabled:
            return
        if self._data_iter is None:
            self._data_iter = iter(self._data_loader)
        self._logger.info(
            f"Running precise-BN for {self._num_iter} iterations...  "
            "Note that this could produce different statistics every time."
        )
        # what the model records meanwhile is not of the training
        with EventStorage():
            update_bn_stats(self._model, itertools.islice(self._data_iter, self._num_iter), self._num_iter)
