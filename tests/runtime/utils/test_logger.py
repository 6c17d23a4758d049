"""Loggers: handlers, files, formats, and messages that appear once in a while."""

import functools
import logging
import re
from itertools import count

import pytest
import termcolor

from detectron2.utils import logger as module
from detectron2.utils.logger import create_small_table, log_every_n, log_every_n_seconds, log_first_n, setup_logger

_number = count()


@pytest.fixture
def name():
    """A logger name that no other test has used."""
    name = f"logger_test_{next(_number)}"
    yield name
    logging.getLogger(name).handlers.clear()


def _without_times(text: str) -> list[str]:
    return re.sub(r"\[\d\d/\d\d \d\d:\d\d:\d\d", "[T", text).splitlines()


def test_console_and_file(tmp_path, capsys, monkeypatch, name):
    # termcolor remembers what it found out about the terminal, so environment variables come too late.
    monkeypatch.setattr(module, "colored", functools.partial(termcolor.colored, no_color=True))
    logger = setup_logger(str(tmp_path), name=name, abbrev_name="ab")
    logger.info("plain")
    logger.warning("careful")
    logging.getLogger(f"{name}.part").error("broken")
    logger.debug("detail")
    assert _without_times(capsys.readouterr().out) == [
        f"[T {name}]: plain",
        f"WARNING [T {name}]: careful",
        "ERROR [T ab.part]: broken",
        f"[T {name}]: detail",
    ]
    for handler in logger.handlers:
        handler.flush()
    assert _without_times((tmp_path / "log.txt").read_text()) == [
        f"[T] {name} INFO: plain",
        f"[T] {name} WARNING: careful",
        "[T] ab.part ERROR: broken",
        f"[T] {name} DEBUG: detail",
    ]
    assert not logger.propagate and logger.level == logging.DEBUG


def test_without_color_names_stay_whole(capsys, name):
    setup_logger(name=name, abbrev_name="ab", color=False)
    logging.getLogger(f"{name}.part").info("x")
    assert _without_times(capsys.readouterr().out) == [f"[T] {name}.part INFO: x"]


def test_colors(capsys, monkeypatch, name):
    monkeypatch.setattr(module, "colored", functools.partial(termcolor.colored, force_color=True))
    setup_logger(name=name).warning("x")
    out = capsys.readouterr().out
    assert "\x1b[31mWARNING\x1b[0m \x1b[32m[" in out and out.endswith("]: \x1b[0mx\n")


def test_abbreviation_leaves_the_record_whole():
    record = logging.LogRecord("detectron2.utils.events", logging.INFO, "f", 1, "m", (), None)
    formatter = module._AbbreviatingFormatter("%(name)s", root_name="detectron2", abbrev_name="d2")
    assert formatter.format(record) == "d2.utils.events"
    assert record.name == "detectron2.utils.events"  # other handlers share the record


def test_ranks_have_files_of_their_own(tmp_path, capsys, name):
    logger = setup_logger(str(tmp_path / "sub" / "train.log"), 2, name=name)
    logger.info("x")
    assert capsys.readouterr().out == ""
    for handler in logger.handlers:
        handler.flush()
    assert _without_times((tmp_path / "sub" / "train.log.rank2").read_text()) == [f"[T] {name} INFO: x"]


def test_setup_twice_adds_no_handlers(name):
    assert setup_logger(name=name) is setup_logger(name=name)
    assert len(logging.getLogger(name).handlers) == 1


def test_only_a_file(tmp_path, capsys, name):
    setup_logger(str(tmp_path), name=name, configure_stdout=False, enable_propagation=True).info("x")
    assert capsys.readouterr().out == "" and logging.getLogger(name).propagate


def test_log_first_n(caplog):
    for index in range(4):
        log_first_n(logging.WARNING, f"line {index}", 2)
    for index in (0, 1, 1):
        log_first_n(logging.WARNING, f"message {index}", key="message")
    for index in (0, 0, 1):
        log_first_n(logging.WARNING, f"both {index}", key=("caller", "message"))
    assert caplog.messages == ["line 0", "line 1", "message 0", "message 1", "both 0", "both 1"]
    assert {record.name for record in caplog.records} == {__name__}
    with pytest.raises(ValueError, match="'line'"):
        log_first_n(logging.WARNING, "x", key="line")


def test_log_every_n(caplog):
    for index in range(5):
        log_every_n(logging.WARNING, f"second {index}", 2, name="other")
    for index in range(2):
        log_every_n(logging.WARNING, f"all {index}")
    assert caplog.messages == ["second 0", "second 2", "second 4", "all 0", "all 1"]
    assert caplog.records[0].name == "other"


def test_log_every_n_seconds(caplog, monkeypatch):
    for now in (0.0, 4.0, 5.0, 9.0, 10.5):
        monkeypatch.setattr(module.time, "monotonic", lambda now=now: now)
        log_every_n_seconds(logging.WARNING, f"at {now}", n=5)
    assert caplog.messages == ["at 0.0", "at 5.0", "at 10.5"]


def test_small_table():
    assert create_small_table({"AP": 1.23456, "AP50": None, "x": float("nan"), "n": 3}).splitlines() == [
        "|  AP   |  AP50  |  x  |  n  |",
        "|:-----:|:------:|:---:|:---:|",
        "| 1.235 |        | nan |  3  |",
    ]


def test_remote_files_are_buffered(monkeypatch):
    assert module._get_log_stream_buffer_size("a.txt") == -1
    assert module._get_log_stream_buffer_size("s3://a.txt") == 1 << 20
    monkeypatch.setenv(module.D2_LOG_BUFFER_SIZE_KEY, "77")
    assert module._get_log_stream_buffer_size("s3://a.txt") == 77
