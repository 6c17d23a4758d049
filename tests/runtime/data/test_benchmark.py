import logging
import time

import pytest

from detectron2.data.benchmark import DataLoaderBenchmark, _EmptyMapDataset, iter_benchmark
from detectron2.data.samplers import TrainingSampler


def slow_items():
    while True:
        time.sleep(0.002)
        yield 0


def test_mean_and_steps():
    mean, seconds = iter_benchmark(slow_items(), num_iter=5, warmup=1)
    assert len(seconds) == 5
    assert min(seconds) >= 0.002
    assert mean == pytest.approx(sum(seconds) / 5)


def test_stops_at_the_limit_of_time():
    _, seconds = iter_benchmark(slow_items(), num_iter=1000, warmup=0, max_time_seconds=0.01)
    assert 1 <= len(seconds) < 100


def test_each_part_does_its_work_and_logs(caplog):
    mapped = []
    benchmark = DataLoaderBenchmark(
        [{"id": i} for i in range(10)],
        mapper=lambda record: mapped.append(record["id"]) or record,
        sampler=TrainingSampler(10, shuffle=False),
        total_batch_size=2,
    )
    caplog.set_level(logging.INFO, "detectron2.data.benchmark")
    logging.getLogger("detectron2.data.benchmark").addHandler(caplog.handler)
    try:
        benchmark.benchmark_dataset(3, warmup=1)
        assert mapped == []
        benchmark.benchmark_mapper(3, warmup=1)
        assert mapped == [0, 1, 2, 3]
        mapped.clear()
        benchmark.benchmark_workers(3, warmup=1)
        assert mapped == list(range(8))
        benchmark.benchmark_IPC(1, warmup=0)
        benchmark.benchmark_distributed(1, warmup=0)
    finally:
        logging.getLogger("detectron2.data.benchmark").removeHandler(caplog.handler)
    own = [record.getMessage() for record in caplog.records if record.name == "detectron2.data.benchmark"]
    begins = list(dict.fromkeys(message.split(":")[0] for message in own))
    assert begins == [
        "records, read in this process",
        "items, read and mapped in this process",
        "batches of the loader with 0 workers",
        "batches that stay in 0 workers",
        "batches of the loader (process 0)",
    ]


def test_items_that_stay():
    touched = []

    class Items:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            touched.append(index)
            return "large"

    dataset = _EmptyMapDataset(Items())
    assert (len(dataset), dataset[2], touched) == (3, [0], [2])
