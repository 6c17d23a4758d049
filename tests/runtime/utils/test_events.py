"""The event storage and its writers; lines and files as recorded on stock Detectron2."""

import json
import logging

import pytest
import torch

from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)
from detectron2.utils.logger import setup_logger


@pytest.fixture
def lines(caplog):
    """The console lines of the events logger."""
    setup_logger()
    logging.getLogger("detectron2").propagate = True
    caplog.set_level(logging.INFO)
    yield lambda: [record.getMessage() for record in caplog.records if record.name == "detectron2.utils.events"]
    logging.getLogger("detectron2").propagate = False


def _train(writers, iterations=5, at=(2, 3)):
    """A training whose numbers are known: losses 2/(i+1), 1/(i+1); half a second an iteration."""
    with EventStorage() as storage:
        for i in range(iterations):
            storage.put_scalar("total_loss", 2.0 / (i + 1))
            storage.put_scalars(loss_cls=1.0 / (i + 1), loss_box=torch.tensor(0.5))
            storage.put_scalar("lr", 0.001 * (i + 1), smoothing_hint=False)
            storage.put_scalar("time", 0.5)
            storage.put_scalar("data_time", 0.01)
            storage.put_scalar("bbox/AP", 10.0 + i, smoothing_hint=False)
            with storage.name_scope("rpn"):
                storage.put_scalar("num_pos", 3.5)
            if i in at:
                for writer in writers:
                    writer.write()
            storage.step()
        for writer in writers:
            writer.write()
    for writer in writers:
        writer.close()
    return storage


def test_storage_stack():
    assert not has_event_storage()
    with pytest.raises(AssertionError, match="has to be called inside a 'with EventStorage"):
        get_event_storage()
    with EventStorage(3) as outer:
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is outer and has_event_storage() and outer.iter == outer.iteration == 3
    assert not has_event_storage()


def test_scalars():
    storage = EventStorage(5)
    storage.put_scalar("a", torch.tensor(1.5))
    storage.put_scalar("b", 1, cur_iter=77)
    assert storage.latest() == {"a": (1.5, 5), "b": (1.0, 77)}
    assert storage.smoothing_hints() == {"a": True, "b": True}
    assert storage.history("a").latest() == 1.5 and list(storage.histories()) == ["a", "b"]
    with pytest.raises(AssertionError, match="b was put with a different smoothing_hint"):
        storage.put_scalar("b", 1, smoothing_hint=False)
    with pytest.raises(KeyError, match="nope"):
        storage.history("nope")


def test_window_counts_iterations_not_values():
    storage = EventStorage()
    for iteration, value in ((0, 1.0), (10, 2.0), (20, 30.0)):
        storage.iter = iteration
        storage.put_scalar("sparse", value)
        storage.put_scalar("exact", value, smoothing_hint=False)
    # 20 iterations up to the newest are 1..20: the value of iteration 0 is out.
    assert storage.count_samples("sparse", 20) == 2
    assert storage.count_samples("sparse", 21) == 3
    assert storage.count_samples("nope", 20) == 0
    assert storage.latest_with_smoothing_hint(20) == {"sparse": (16.0, 20), "exact": (30.0, 20)}


def test_name_scope_is_left_after_an_error():
    storage = EventStorage()
    with pytest.raises(RuntimeError), storage.name_scope("a"):
        raise RuntimeError
    storage.put_scalar("x", 1)
    assert list(storage.latest()) == ["x"]


def test_histogram():
    storage = EventStorage(5)
    storage.put_histogram("h", torch.arange(10.0), 4)
    (histogram,) = storage._histograms
    assert histogram == {
        "tag": "h",
        "min": 0.0,
        "max": 9.0,
        "num": 10,
        "sum": 45.0,
        "sum_squares": 285.0,
        "bucket_limits": [2.25, 4.5, 6.75, 9.0],
        "bucket_counts": [3.0, 2.0, 2.0, 3.0],  # {0,1,2}, {3,4}, {5,6}, {7,8,9}
        "global_step": 5,
    }


def test_json_lines_equal_stock(tmp_path):
    path = tmp_path / "metrics.json"
    _train([CommonMetricPrinter(10, 3), JSONWriter(str(path), 3)])
    assert path.read_text().splitlines() == [
        '{"bbox/AP": 12.0, "data_time": 0.01, "eta_seconds": 3.5, "iteration": 2, "loss_box": 0.5, "loss_cls": 0.5, '
        '"lr": 0.003, "rpn/num_pos": 3.5, "time": 0.5, "total_loss": 1.0}',
        '{"bbox/AP": 13.0, "data_time": 0.01, "eta_seconds": 3.0, "iteration": 3, "loss_box": 0.5, '
        '"loss_cls": 0.3333333333333333, "lr": 0.004, "rpn/num_pos": 3.5, "time": 0.5, '
        '"total_loss": 0.6666666666666666}',
        '{"bbox/AP": 14.0, "data_time": 0.01, "iteration": 4, "loss_box": 0.5, "loss_cls": 0.25, "lr": 0.005, '
        '"rpn/num_pos": 3.5, "time": 0.5, "total_loss": 0.5}',
        '{"eta_seconds": 2.0, "iteration": 5}',
    ]


def test_json_appends_and_writes_nothing_twice(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 0}\n')
    writer = JSONWriter(str(path))
    with EventStorage(1) as storage:
        writer.write()
        storage.put_scalar("x", 1)
        writer.write()
        writer.write()
        # Readable before close: a run that dies keeps its metrics.
        written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written == [{"iteration": 0}, {"iteration": 1, "x": 1.0}]
    writer.close()


def test_console_lines_equal_stock(lines):
    _train([CommonMetricPrinter(10, 3)])
    assert [line.split(" max_mem")[0].rstrip() for line in lines()] == [
        " eta: 0:00:03  iter: 2  total_loss: 1  loss_cls: 0.5  loss_box: 0.5    time: 0.5000  "
        "last_time: 0.5000  data_time: 0.0100  last_data_time: 0.0100   lr: 0.003",
        " eta: 0:00:03  iter: 3  total_loss: 0.6667  loss_cls: 0.3333  loss_box: 0.5    time: 0.5000  "
        "last_time: 0.5000  data_time: 0.0100  last_data_time: 0.0100   lr: 0.004",
        " eta: 0:00:02  iter: 5  total_loss: 0.5  loss_cls: 0.25  loss_box: 0.5    time: 0.5000  "
        "last_time: 0.5000  data_time: 0.0100  last_data_time: 0.0100   lr: 0.005",
    ]


def test_console_times_are_of_the_run_and_data_times_of_the_window(lines):
    printer = CommonMetricPrinter(10, 2)
    with EventStorage() as storage:
        for i in range(5):
            storage.put_scalar("time", 0.1 * i**2)
            storage.put_scalar("data_time", 0.01 * i**2)
            storage.step()
        printer.write()
    # time: (0 + .1 + .4 + .9 + 1.6) / 5; data_time: (.09 + .16) / 2
    assert "time: 0.6000  last_time: 1.6000  data_time: 0.1250  last_data_time: 0.1600" in lines()[0]


def test_console_without_anything_measured(lines):
    printer = CommonMetricPrinter(10)
    with EventStorage(3):
        printer.write()
        printer.write()  # the same iteration again: no time per iteration can be told
    assert [line.split(" max_mem")[0].rstrip() for line in lines()] == [" iter: 3       lr: N/A"] * 2


def test_console_estimates_from_the_time_between_lines(lines, monkeypatch):
    clock = iter([100.0, 120.0])
    monkeypatch.setattr("detectron2.utils.events.time.monotonic", lambda: next(clock))
    printer = CommonMetricPrinter(10)
    with EventStorage() as storage:
        printer.write()
        storage.iter = 4
        printer.write()
    # 20 s over 4 iterations; iterations 5 to 9 remain: 5 × 5 s.
    assert lines()[1].startswith(" eta: 0:00:25  iter: 4 ")


def test_time_left_is_told_from_the_last_1000_iterations(lines):
    with EventStorage() as storage:
        for i in range(1500):
            storage.put_scalar("time", float(i))
            storage.step()
        CommonMetricPrinter(1502).write()
        # One iteration remains; the median of 500 … 1499.
        assert storage.latest()["eta_seconds"] == (999.5, 1500)


def test_console_says_nothing_after_the_last_iteration(lines):
    _train([CommonMetricPrinter(5, 3)], at=())
    assert lines() == []


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = TensorboardXWriter(str(tmp_path / "idle"))
    writer.close()
    assert not (tmp_path / "idle").exists()  # nothing written, no file

    writer = TensorboardXWriter(str(tmp_path / "run"), 3)
    with EventStorage(4) as storage:
        storage.put_scalar("x", 2.0)
        storage.put_image("picture", torch.rand(3, 4, 4))
        storage.put_histogram("h", torch.arange(10.0), 4)
        writer.write()
        writer.write()
        assert not storage._vis_data and not storage._histograms
    writer.close()
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("x")] == [(4, 2.0)]
    assert read.Tags()["images"] == ["picture"] and read.Tags()["histograms"] == ["h"]
