"""Training loops: the hook protocol, the iteration-based loop and its single-optimizer trainers."""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DataParallel, DistributedDataParallel

from detectron2.engine.loss_checking import check_losses_are_finite, non_finite_loss_error
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from detectron2.utils.logger import _log_api_usage

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]


class HookBase:
    """What a `TrainerBase` calls around its steps.

    Order: before_train, then per iteration before_step, (the trainer's run_step with after_backward in it),
    after_step, and after_train at the end, be it by an exception.

    Attributes:
        trainer: set by `register_hooks`; a weak reference.
    """

    trainer: Any = None

    def before_train(self) -> None:
        """Before the first iteration."""

    def after_train(self) -> None:
        """After the last iteration."""

    def before_step(self) -> None:
        """Before each iteration."""

    def after_backward(self) -> None:
        """After the gradients of an iteration are there, before they are used."""

    def after_step(self) -> None:
        """After each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep; hooks that return something define `load_state_dict` too."""
        return {}


class TrainerBase:
    """An iteration-based loop with hooks; subclasses define `run_step`.

    Attributes:
        iter: the iteration going on, from `start_iter` to `max_iter` - 1.
        storage: the `EventStorage` of the training.
    """

    storage: EventStorage
    max_iter: int

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        _log_api_usage("trainer." + self.__class__.__name__)

    def register_hooks(self, hooks: list[HookBase | None]) -> None:
        """Appends hooks; they are called in this order."""
        registered = [hook for hook in hooks if hook is not None]
        for hook in registered:
            if not isinstance(hook, HookBase):
                raise TypeError(f"register_hooks takes HookBase objects, got {type(hook).__name__}.")
            # a weak reference: trainer and hook would otherwise keep one another, and GPU memory, alive
            hook.trainer = weakref.proxy(self)
        self._hooks.extend(registered)

    def train(self, start_iter: int, max_iter: int) -> Any:
        """Runs the iterations `start_iter` … `max_iter` - 1."""
        logger = logging.getLogger(__name__)
        logger.info(f"Starting training from iteration {start_iter}")
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                # hooks of after_train tell a finished training from a broken one by iter == max_iter
                self.iter = max_iter
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """{"iteration": int, "hooks": {class name: state}}, "hooks" only where one has a state."""
        state: dict[str, Any] = {"iteration": self.iter}
        hooks: dict[str, Any] = {}
        for hook in self._hooks:
            hook_state = hook.state_dict()
            if hook_state:
                hooks.setdefault(type(hook).__qualname__, hook_state)
        if hooks:
            state["hooks"] = hooks
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        logger = logging.getLogger(__name__)
        self.iter = state_dict["iteration"]
        for name, hook_state in state_dict.get("hooks", {}).items():
            hook: Any = next((hook for hook in self._hooks if type(hook).__qualname__ == name), None)
            if hook is None:
                logger.warning(f"Cannot find the hook '{name}', its state_dict is ignored.")
            else:
                hook.load_state_dict(hook_state)


class SimpleTrainer(TrainerBase):
    """One model, one optimizer, one data loader: load, forward, sum the losses, backward, step.

    A non-finite loss raises before the weights change, on every process of a distributed training.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        """
        Args:
            model: takes a batch of the loader, gives a dict of scalar losses or one scalar loss. Set to training mode.
            data_loader: endless, or long enough.
            optimizer: over the model's parameters.
            gather_metric_period: losses are gathered from all processes every so many iterations.
            zero_grad_before_forward: clear the gradients before the forward pass instead of after it.
            async_write_metrics: write metrics in a thread, where waiting for the device costs no time.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self._data_loader_iter_obj: Any = None
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self.concurrent_executor = ThreadPoolExecutor(max_workers=1) if async_write_metrics else None

    def run_step(self) -> None:
        data, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        loss_dict, losses = self._total_loss(self.model(data))
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        losses.backward()
        self.after_backward()
        self._record_metrics(loss_dict, data_time)
        self.optimizer.step()

    def _next_batch(self) -> tuple[Any, float]:
        """The next batch and the seconds it took."""
        if not self.model.training:
            raise AssertionError(f"[{type(self).__name__}] model was changed to eval mode!")
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        return data, time.perf_counter() - start

    @staticmethod
    def _total_loss(output: torch.Tensor | dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The losses by name and their sum."""
        if isinstance(output, torch.Tensor):
            return {"total_loss": output}, output
        return output, sum(output.values())  # type: ignore[return-value]

    def _record_metrics(self, loss_dict: dict[str, torch.Tensor], data_time: float) -> None:
        """Stops on a non-finite loss, then writes the metrics, in the thread if there is one."""
        # After backward: a GPU is busy with it while the host waits for the losses.
        check_losses_are_finite(loss_dict, self.iter)
        # Over gloo, gathering in a thread would mix with the gradients' collectives in another order on each process.
        over_gloo = comm.get_world_size() > 1 and torch.distributed.get_backend() == "gloo"
        if self.concurrent_executor is None or over_gloo:
            self._write_metrics(loss_dict, data_time)
        else:
            self.concurrent_executor.submit(self._write_metrics, loss_dict, data_time, iter=self.iter)

    @property
    def _data_loader_iter(self) -> Any:
        # only created when needed: worker processes start with the first step
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Replaces the data loader; the old one is given up before the new one is built."""
        del self.data_loader
        self.data_loader = data_loader_builder()
        self._data_loader_iter_obj = None

    def _write_metrics(
        self,
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period != 0:
            return
        try:
            SimpleTrainer.write_metrics(loss_dict, data_time, iteration, prefix)
        except Exception:
            logging.getLogger(__name__).exception("Exception in writing metrics: ")
            raise

    @staticmethod
    def write_metrics(loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = "") -> None:
        """Puts losses (mean over processes), their sum and the loading time (longest of all) into the storage.

        Args:
            loss_dict: scalar losses.
            data_time: seconds this process waited for its batch.
            cur_iter: iteration to record them under.
            prefix: goes before "total_loss".

        Raises:
            FloatingPointError: the mean of the losses' sum is not finite.
        """
        metrics = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        gathered = comm.gather({**metrics, "data_time": data_time})
        if not comm.is_main_process():
            return
        storage.put_scalar("data_time", np.max([each.pop("data_time") for each in gathered]), cur_iter=cur_iter)
        means: dict[str, Any] = {name: float(np.mean([each[name] for each in gathered])) for name in gathered[0]}
        total = sum(means.values())
        if not np.isfinite(total):
            raise non_finite_loss_error(means, cur_iter)
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(means) > 1:
            storage.put_scalars(cur_iter=cur_iter, **means)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])

    def after_train(self) -> None:
        # metrics still in the thread come before the writers' last turn
        if self.concurrent_executor is not None:
            self.concurrent_executor.shutdown(wait=True)
        super().after_train()


class AMPTrainer(SimpleTrainer):
    """`SimpleTrainer` with the forward pass in half precision, on GPU and CPU."""

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: Any = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        """
        Args:
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics: as in
                `SimpleTrainer`.
            grad_scaler: torch's `GradScaler` for the model's device by default; on a CPU it acts for float16 only.
            precision: torch.float16 or torch.bfloat16.
            log_grad_scaler: record the scale.
        """
        if isinstance(model, DataParallel) or (
            isinstance(model, DistributedDataParallel) and model.device_ids and len(model.device_ids) > 1
        ):
            raise AssertionError("AMPTrainer does not support one process with several devices.")
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics
        )
        self.device_type = next((parameter.device.type for parameter in model.parameters()), "cpu")
        if grad_scaler is None:
            enabled = self.device_type != "cpu" or precision == torch.float16
            grad_scaler = torch.amp.GradScaler(self.device_type, enabled=enabled)
        self.grad_scaler = grad_scaler
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def run_step(self) -> None:
        data, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        with torch.autocast(self.device_type, dtype=self.precision):
            loss_dict, losses = self._total_loss(self.model(data))
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self.grad_scaler.scale(losses).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        self.after_backward()
        self._record_metrics(loss_dict, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # empty or absent where the checkpoint's training had no scaler, e.g. float32 or bfloat16 on a CPU
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
