"""What happens around the training steps: losses that are not finite, and progress on a terminal."""

import logging
import sys
from weakref import WeakKeyDictionary

import torch
from tqdm import tqdm

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from rcnnkit.errors import UserError

# The images that each model in training was given last.
_latest_images: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()
ADVICE = "Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS, or look at these annotations"


def stop_on_bad_loss(model: torch.nn.Module) -> None:
    """Let the model refuse, in training, losses that are not finite: before a gradient is taken, so no weight changes.

    The `UserError` names the iteration, the losses and the images of the batch. Of several processes all raise it, also
    where the loss of only one is not finite.
    """
    model.register_forward_pre_hook(_remember_images)
    model.register_forward_hook(_check_losses)


def _remember_images(model: torch.nn.Module, inputs: tuple) -> None:
    if model.training:
        _latest_images[model] = named_images(inputs[0])


def diverged(model: torch.nn.Module, iteration: int, error: FloatingPointError) -> UserError:
    """What to say of an engine's own stop within a step, at numbers that are not finite before there are losses."""
    inner = getattr(model, "module", model)  # without the wrapper of several processes
    reason = str(error).splitlines()[0]
    return UserError(
        f"iteration {iteration}: {reason} The images were {_latest_images.get(inner, 'not read yet')}. {ADVICE}"
    )


def _check_losses(model: torch.nn.Module, inputs: tuple, outputs) -> None:
    if not model.training or not isinstance(outputs, dict) or not outputs:
        return
    losses = {name: value.detach().float().mean() for name, value in outputs.items()}
    finite = torch.isfinite(torch.stack(list(losses.values()))).all().to(torch.int32)
    several = comm.get_world_size() > 1
    everywhere = finite.clone()
    if several:
        torch.distributed.all_reduce(everywhere, op=torch.distributed.ReduceOp.MIN)
    if everywhere.item():
        return
    values = ", ".join(f"{name} {value.item():.4g}" for name, value in losses.items())
    bad = "" if finite.item() else f"({values}) on the images {_latest_images[model]}"
    found = [each for each in comm.all_gather(bad) if each] if several else [bad]
    raise UserError(
        f"iteration {get_event_storage().iter}: the loss is not finite {' and '.join(found)}; the weights were not "
        f"changed. {ADVICE}"
    )


def named_images(batch: list[dict]) -> str:
    """The images of a batch of records, for a message."""
    return ", ".join(str(record.get("file_name", record.get("image_id", "?"))) for record in batch)


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
