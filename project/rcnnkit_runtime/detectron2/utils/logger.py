"""Logs: one coloured console handler and one file per rank; messages that appear once, or once in a while."""

import atexit
import functools
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from tabulate import tabulate
from termcolor import colored

from detectron2.utils.file_io import PathManager

__all__ = ["create_small_table", "log_every_n", "log_every_n_seconds", "log_first_n", "setup_logger"]

D2_LOG_BUFFER_SIZE_KEY = "D2_LOG_BUFFER_SIZE"
"""Environment variable: bytes that a log file outside the local file system is buffered by."""
DEFAULT_LOG_BUFFER_SIZE = 1024 * 1024
_DATE_FORMAT = "%m/%d %H:%M:%S"
_PLAIN_FORMAT = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"


class _AbbreviatingFormatter(logging.Formatter):
    """Shows `<root_name>.rest` as `<abbrev_name>.rest`."""

    def __init__(self, *args, **kwargs):
        self._root_name = kwargs.pop("root_name") + "."
        abbrev_name = kwargs.pop("abbrev_name", "")
        self._abbrev_name = abbrev_name + "." if abbrev_name else ""
        super().__init__(*args, **kwargs)

    def formatMessage(self, record: logging.LogRecord) -> str:
        if not record.name.startswith(self._root_name):
            return super().formatMessage(record)
        full_name = record.name
        record.name = self._abbrev_name + full_name[len(self._root_name) :]
        try:
            return super().formatMessage(record)
        finally:
            record.name = full_name  # other handlers share the record


class _ColorfulFormatter(_AbbreviatingFormatter):
    """Adds the level, in colour, before warnings and errors."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        if record.levelno >= logging.ERROR:
            return f"{colored(record.levelname, 'red', attrs=['bold', 'underline'])} {line}"
        if record.levelno >= logging.WARNING:
            return f"{colored(record.levelname, 'red', attrs=['bold'])} {line}"
        return line


def _log_file_name(output: str, distributed_rank: int) -> str:
    filename = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    return filename if distributed_rank == 0 else f"{filename}.rank{distributed_rank}"


@functools.lru_cache  # a second call with the same arguments must not add handlers again
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Set a logger up at level DEBUG, with the console (rank 0 only) and a file per rank.

    Args:
        output: a folder (the file is `log.txt` in it), or a file name ending in .txt or .log; None writes no file.
            Ranks above 0 write `<file>.rank<N>`.
        distributed_rank: this process's rank.
        color: colour the console.
        name: the logger's root name.
        abbrev_name: what `<name>.` is shortened to in coloured output; "d2" for detectron2, else the name itself.
        enable_propagation: also pass messages to the root logger.
        configure_stdout: write to the console at all.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    if abbrev_name is None:
        abbrev_name = "d2" if name == "detectron2" else name

    names = {"root_name": name, "abbrev_name": abbrev_name if color else name}
    plain = _AbbreviatingFormatter(_PLAIN_FORMAT, datefmt=_DATE_FORMAT, **names)
    if configure_stdout and distributed_rank == 0:
        console = logging.StreamHandler(stream=sys.stdout)
        console.setLevel(logging.DEBUG)
        prefix = colored("[%(asctime)s %(name)s]: ", "green")
        colorful = _ColorfulFormatter(prefix + "%(message)s", datefmt=_DATE_FORMAT, **names)
        console.setFormatter(colorful if color else plain)
        logger.addHandler(console)

    if output is not None:
        filename = _log_file_name(output, distributed_rank)
        PathManager.mkdirs(os.path.dirname(filename) or ".")
        file = logging.StreamHandler(_cached_log_stream(filename))
        file.setLevel(logging.DEBUG)
        file.setFormatter(plain)
        logger.addHandler(file)
    return logger


@functools.cache  # loggers of several names share one file
def _cached_log_stream(filename: str):
    stream = PathManager.open(filename, "a", buffering=_get_log_stream_buffer_size(filename))
    atexit.register(stream.close)
    return stream


def _get_log_stream_buffer_size(filename: str) -> int:
    """Line-wise on the local file system; in large pieces on remote storage, where each write is a request."""
    if "://" not in filename:
        return -1
    return int(os.environ.get(D2_LOG_BUFFER_SIZE_KEY, DEFAULT_LOG_BUFFER_SIZE))


_LOG_COUNTER: Counter = Counter()
_LOG_TIMER: dict[Any, float] = {}


def _find_caller() -> tuple[str, tuple[str, int, str]]:
    """Find the first frame outside this file.

    Returns:
        The module's name to log under, and (file, line, function) to count by.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "__main__")
    # A script's own logger is not set up; its messages belong to the engine's.
    name = "detectron2" if module == "__main__" else module
    return name, (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def log_first_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: str | tuple[str, ...] = "caller"):
    """Log only the first `n` times.

    Args:
        lvl: level of the logging module.
        msg: the message.
        n: how many times.
        name: the logger; the caller's module by default.
        key: what counts as "the same": "caller" (the line of code), "message", or a tuple of both.
    """
    caller_module, caller = _find_caller()
    keys = (key,) if isinstance(key, str) else key
    identity: tuple = ()
    if "caller" in keys:
        identity += caller
    if "message" in keys:
        identity += (msg,)
    if not identity:
        raise ValueError(f"log_first_n: key {key!r} holds neither 'caller' nor 'message'")
    _LOG_COUNTER[identity] += 1
    if _LOG_COUNTER[identity] <= n:
        logging.getLogger(name or caller_module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log the first of every `n` calls of one line of code."""
    caller_module, caller = _find_caller()
    _LOG_COUNTER[caller] += 1
    if n == 1 or _LOG_COUNTER[caller] % n == 1:
        logging.getLogger(name or caller_module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log at most once in `n` seconds per line of code."""
    caller_module, caller = _find_caller()
    last, now = _LOG_TIMER.get(caller), time.monotonic()
    if last is None or now - last >= n:
        logging.getLogger(name or caller_module).log(lvl, msg)
        _LOG_TIMER[caller] = now


def create_small_table(small_dict: Mapping[str, Any]) -> str:
    """Format a few values as a table of one row; the keys are its head."""
    return tabulate(
        [list(small_dict.values())],
        headers=list(small_dict.keys()),
        tablefmt="pipe",
        floatfmt=".3f",
        stralign="center",
        numalign="center",
    )


def _log_api_usage(identifier: str) -> None:
    """Tell torch's usage logger, if one is installed, which part of the API is in use."""
    torch._C._log_api_usage_once("detectron2." + identifier)
