"""What happens around the training steps: losses that are not finite, and progress on a terminal."""

import logging
import sys

import torch
from tqdm import tqdm

from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage
from rcnnkit.errors import UserError


def stop_on_bad_loss(model: torch.nn.Module) -> None:
    """Let the model refuse, in training, losses that are not finite: before any gradient is taken, so no weight changes.

    The `UserError` names the iteration, the losses and the images of the batch.
    """
    model.register_forward_hook(_check_losses)


def _check_losses(model: torch.nn.Module, inputs: tuple, outputs) -> None:
    if not model.training or not isinstance(outputs, dict):
        return
    losses = {name: value.detach() for name, value in outputs.items()}
    if all(torch.isfinite(value).all() for value in losses.values()):
        return
    values = ", ".join(f"{name} {value.float().mean().item():.4g}" for name, value in losses.items())
    images = ", ".join(str(record.get("file_name", record.get("image_id", "?"))) for record in inputs[0])
    raise UserError(
        f"iteration {get_event_storage().iter}: the loss is not finite ({values}) on the images {images}; the weights were "
        "not changed. Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, or look at these annotations"
    )


class ProgressBar(HookBase):
    """A bar on a terminal; elsewhere nothing, since the metrics are written as plain lines.

    While it is drawn, the metric lines go to the log file only.
    """

    def __init__(self, max_iter: int):
        self._max_iter = max_iter
        self._bar: tqdm | None = None

    def before_train(self):
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._max_iter, initial=self.trainer.start_iter, desc="training", unit="it", dynamic_ncols=True
            )
            for handler in self._console_handlers():
                handler.addFilter(_not_a_metric_line)

    def after_step(self):
        if self._bar is not None:
            history = self.trainer.storage.histories()
            if "total_loss" in history and self.trainer.iter % 5 == 0:
                self._bar.set_postfix(loss=f"{history['total_loss'].median(20):.3f}", refresh=False)
            self._bar.update(1)

    def after_train(self):
        if self._bar is not None:
            self._bar.close()
            for handler in self._console_handlers():
                handler.removeFilter(_not_a_metric_line)

    @staticmethod
    def _console_handlers() -> list[logging.Handler]:
        streams = (sys.stdout, sys.stderr)
        return [h for h in logging.getLogger("detectron2").handlers if getattr(h, "stream", None) in streams]


def _not_a_metric_line(record: logging.LogRecord) -> bool:
    return record.name != "detectron2.utils.events"
