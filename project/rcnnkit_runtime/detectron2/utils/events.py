"""What happens during training: scalars, images and histograms are put into a storage, and writers take them out.

Iterations count from 0. A value put during iteration i is stamped i; writers remember the last stamp that they wrote.
"""

import datetime
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer

from detectron2.utils.file_io import PathManager

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "JSONWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
]

_CURRENT_STORAGE_STACK: list["EventStorage"] = []
_ETA_WINDOW = 1000  # iterations whose median duration the time left is told from


def get_event_storage() -> "EventStorage":
    """The innermost storage whose `with` block is running.

    Raises:
        AssertionError: called outside of one.
    """
    assert _CURRENT_STORAGE_STACK, "get_event_storage() has to be called inside a 'with EventStorage(...)' context!"
    return _CURRENT_STORAGE_STACK[-1]


def has_event_storage() -> bool:
    """Whether a `with EventStorage(...)` block is running."""
    return bool(_CURRENT_STORAGE_STACK)


class EventStorage:
    """Holds the history of every scalar, and the images and histograms that no writer has taken yet."""

    def __init__(self, start_iter: int = 0):
        """
        Args:
            start_iter: the iteration that training begins at (above 0 when it resumes).
        """
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._iter = start_iter
        self._current_prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict[str, Any]] = []

    def put_image(self, img_name: str, img_tensor) -> None:
        """Add an image for TensorBoard.

        Args:
            img_name: the tag.
            img_tensor: (3, H, W) RGB, uint8 in [0, 255] or float in [0, 1]; tensor or array.
        """
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_scalar(self, name: str, value, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Add a value to the history of `name`.

        Args:
            name: the scalar's name; a surrounding `name_scope` is put before it.
            value: anything that `float()` takes.
            smoothing_hint: whether writers may show a median of recent values. Must not change for a name.
            cur_iter: the iteration to stamp it with; the current one by default.
        """
        name = self._current_prefix + name
        stamp = self._iter if cur_iter is None else cur_iter
        value = float(value)
        known_hint = self._smoothing_hints.setdefault(name, smoothing_hint)
        assert known_hint == smoothing_hint, (
            f"Scalar {name} was put with a different smoothing_hint! It began with {known_hint}, now {smoothing_hint}"
        )
        self._history[name].update(value, stamp)
        self._latest_scalars[name] = (value, stamp)

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs) -> None:
        """Add several scalars: `put_scalars(loss=loss, accuracy=accuracy)`."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Add a histogram of a tensor's values for TensorBoard.

        Args:
            hist_name: the tag.
            hist_tensor: float tensor of any shape.
            bins: number of equal bins between its least and greatest value.
        """
        low, high = hist_tensor.min().item(), hist_tensor.max().item()
        edges = torch.linspace(low, high, steps=bins + 1, dtype=torch.float32)
        self._histograms.append(
            {
                "tag": hist_name,
                "min": low,
                "max": high,
                "num": hist_tensor.numel(),
                "sum": float(hist_tensor.sum()),
                "sum_squares": float((hist_tensor * hist_tensor).sum()),
                "bucket_limits": edges[1:].tolist(),
                "bucket_counts": torch.histc(hist_tensor, bins=bins).tolist(),
                "global_step": self._iter,
            }
        )

    def history(self, name: str) -> HistoryBuffer:
        """All values of one scalar.

        Raises:
            KeyError: nothing was put under that name.
        """
        if name not in self._history:
            raise KeyError(f"No history metric available for {name}!")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """The histories of all scalars by name."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """The last value of each scalar and the iteration that it belongs to."""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As `latest()`, with the median of the last `window_size` iterations where the hint allows smoothing."""
        return {
            name: (self._median(name, window_size) if self._smoothing_hints[name] else value, stamp)
            for name, (value, stamp) in self._latest_scalars.items()
        }

    def _median(self, name: str, window_size: int) -> float:
        samples = self.count_samples(name, window_size)
        return self._history[name].median(samples) if samples else self._latest_scalars[name][0]

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many of the values of `name` lie in the last `window_size` iterations up to its newest value.

        A scalar that is put once in several iterations has fewer values in the window than the window is long.
        """
        if name not in self._history:
            return 0
        values = self._history[name].values()
        newest = values[-1][1]
        count = 0
        for _, stamp in reversed(values):
            if stamp <= newest - window_size:
                break
            count += 1
        return count

    def smoothing_hints(self) -> dict[str, bool]:
        """The hint that each scalar was put with."""
        return self._smoothing_hints

    def step(self) -> None:
        """Go to the next iteration. Call after everything of the current one is put."""
        self._iter += 1

    @property
    def iter(self) -> int:
        """The current iteration; settable, for loops that count on their own."""
        return self._iter

    @iter.setter
    def iter(self, val: int) -> None:
        self._iter = int(val)

    @property
    def iteration(self) -> int:
        """The same as `iter`, under its older name."""
        return self._iter

    def __enter__(self) -> "EventStorage":
        _CURRENT_STORAGE_STACK.append(self)
        return self

    def __exit__(self, exc_type, exc_val, exc_tb) -> None:
        assert _CURRENT_STORAGE_STACK[-1] is self, "EventStorage contexts were left in another order than entered"
        _CURRENT_STORAGE_STACK.pop()

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put `<name>/` before the name of every scalar that is put inside the block."""
        outer = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outer

    def clear_images(self) -> None:
        """Forget the images; a writer calls it after writing them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Forget the histograms; a writer calls it after writing them."""
        self._histograms = []


class EventWriter:
    """Takes events from the current storage to somewhere: a file, the console."""

    def write(self) -> None:
        """Write what is new in the current storage."""
        raise NotImplementedError(f"{type(self).__name__} must define write()")

    def close(self) -> None:
        """Finish and release the target."""


class JSONWriter(EventWriter):
    """Appends to a file of one JSON object per line, keys sorted, one line per iteration (`metrics.json`)."""

    def __init__(self, json_file: str, window_size: int = 20):
        """
        Args:
            json_file: the file; new lines come after those that it has.
            window_size: iterations over which smoothed scalars take their median.
        """
        self._file_handle = PathManager.open(json_file, "a")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        storage = get_event_storage()
        by_iteration: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, stamp) in storage.latest_with_smoothing_hint(self._window_size).items():
            if stamp > self._last_write:
                by_iteration[stamp][name] = float(value)
        if not by_iteration:
            return
        for stamp in sorted(by_iteration):
            line = json.dumps({**by_iteration[stamp], "iteration": stamp}, sort_keys=True)
            self._file_handle.write(line + "\n")
        self._last_write = max(by_iteration)
        self._file_handle.flush()
        try:
            os.fsync(self._file_handle.fileno())
        except (AttributeError, OSError):  # not every PathManager handler opens a file with a descriptor
            return

    def close(self) -> None:
        self._file_handle.close()


class TensorboardXWriter(EventWriter):
    """Writes TensorBoard event files."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs):
        """
        Args:
            log_dir: the folder of the event files.
            window_size: iterations over which smoothed scalars take their median.
            kwargs: for `torch.utils.tensorboard.SummaryWriter`.
        """
        self._window_size = window_size
        self._writer_args = {"log_dir": log_dir, **kwargs}
        self._last_write = -1

    @cached_property
    def _writer(self):
        # Importing TensorBoard takes seconds, so it waits until there is something to write.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._writer_args)

    def write(self) -> None:
        storage = get_event_storage()
        newest = self._last_write
        for name, (value, stamp) in storage.latest_with_smoothing_hint(self._window_size).items():
            if stamp > self._last_write:
                self._writer.add_scalar(name, value, stamp)
                newest = max(newest, stamp)
        self._last_write = newest
        if storage._vis_data:
            for name, image, stamp in storage._vis_data:
                self._writer.add_image(name, image, stamp)
            storage.clear_images()
        if storage._histograms:
            for histogram in storage._histograms:
                self._writer.add_histogram_raw(**histogram)
            storage.clear_histograms()

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line with the time left, losses, iteration times, learning rate and GPU memory."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20):
        """
        Args:
            max_iter: the last iteration + 1, to say how long it takes; None leaves that out.
            window_size: iterations over which losses and times take their median.
        """
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._previous_line: tuple[int, float] | None = None  # (iteration, seconds on the clock)

    def _get_eta(self, storage: EventStorage) -> str | None:
        """The time left as h:mm:ss; empty without `max_iter`, None while no duration is known."""
        if self._max_iter is None:
            return ""
        is_measured = "time" in storage.histories()
        if is_measured:
            seconds = storage.history("time").median(_ETA_WINDOW)
        else:
            seconds = self._seconds_since_last_line(storage.iter)
        if seconds is None:
            return None
        left = seconds * (self._max_iter - storage.iter - 1)
        if is_measured:
            storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        return str(datetime.timedelta(seconds=int(left)))

    def _seconds_since_last_line(self, iteration: int) -> float | None:
        """Seconds an iteration took since the previous call, where no hook measures them; None on the first call."""
        previous, self._previous_line = self._previous_line, (iteration, time.monotonic())
        if previous is None or iteration <= previous[0]:
            return None
        return (self._previous_line[1] - previous[1]) / (iteration - previous[0])

    def _times(self, storage: EventStorage) -> str:
        """Seconds per iteration: `time` averaged over the whole run, `data_time` over the window; and the latest."""
        shown = ""
        if "time" in storage.histories():
            history = storage.history("time")
            shown += f"time: {history.global_avg():.4f}  last_time: {history.latest():.4f}  "
        if "data_time" in storage.histories():
            history = storage.history("data_time")
            average = history.avg(storage.count_samples("data_time", self._window_size))
            shown += f"data_time: {average:.4f}  last_data_time: {history.latest():.4f}  "
        return shown

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return  # after the last iteration: the line of the last one was written before
        eta = self._get_eta(storage)
        losses = "  ".join(
            f"{name}: {storage._median(name, self._window_size):.4g}" for name in storage.histories() if "loss" in name
        )
        lr = f"{storage.history('lr').latest():.5g}" if "lr" in storage.histories() else "N/A"
        memory = f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M" if torch.cuda.is_available() else ""
        prefix = f"eta: {eta}  " if eta else ""
        self.logger.info(f" {prefix}iter: {storage.iter}  {losses}    {self._times(storage)} lr: {lr}  {memory}")
