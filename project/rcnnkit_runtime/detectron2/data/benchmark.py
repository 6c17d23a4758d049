"""Where the time of data loading goes: reading records, mapping them, worker processes, moving items between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch.utils.data as torchdata
from tqdm import tqdm

from detectron2.utils import comm

from .build import build_batch_data_loader
from .common import DatasetFromList, MapDataset
from .samplers import TrainingSampler

logger = logging.getLogger(__name__)


class _EmptyMapDataset(torchdata.Dataset):
    """Does all the work of a dataset, but gives out a single number: what is left of the time is not the transfer."""

    def __init__(self, dataset: Any) -> None:
        self.ds = dataset

    def __len__(self) -> int:
        return len(self.ds)

    def __getitem__(self, idx: int) -> list[int]:
        _ = self.ds[idx]
        return [0]


def iter_benchmark(
    iterator: Iterator[Any], num_iter: int, warmup: int = 5, max_time_seconds: float = 60
) -> tuple[float, list[float]]:
    """Time the steps of an iterator.

    Args:
        iterator: gives at least warmup + 1 items.
        num_iter: steps to time.
        warmup: steps before them that are not timed.
        max_time_seconds: stop early after this time.

    Returns:
        Mean seconds per step, and the seconds of each.
    """
    for _ in range(warmup):
        next(iterator)
    seconds: list[float] = []
    begin = time.perf_counter()
    for _ in tqdm(range(num_iter), disable=None):
        before = time.perf_counter()
        next(iterator)
        now = time.perf_counter()
        seconds.append(now - before)
        if now - begin > max_time_seconds:
            break
    return float(np.mean(seconds)), seconds


class DataLoaderBenchmark:
    """Time the parts of the loading that a training on `dataset` would do; each method logs its numbers."""

    def __init__(
        self,
        dataset: Any,
        *,
        mapper: Callable[[Any], Any],
        sampler: torchdata.Sampler | None = None,
        total_batch_size: int,
        num_workers: int = 0,
        max_time_seconds: int = 90,
    ) -> None:
        """
        Args:
            dataset: records or a map-style dataset.
            mapper: record → item.
            sampler: endless; TrainingSampler by default.
            total_batch_size: over all processes; a multiple of their number.
            num_workers: loader processes.
            max_time_seconds: limit of each measurement.
        """
        if isinstance(dataset, list):
            dataset = DatasetFromList(dataset, copy=False)
        self.dataset = dataset
        self.mapper = mapper
        self.sampler = TrainingSampler(len(dataset)) if sampler is None else sampler
        self.total_batch_size = total_batch_size
        self.num_workers = num_workers
        self.per_gpu_batch_size = total_batch_size // comm.get_world_size()
        self.max_time_seconds = max_time_seconds

    def _benchmark(
        self, iterator: Iterator[Any], num_iter: int, warmup: int, msg: str | None = None
    ) -> tuple[float, list[float]]:
        mean, seconds = iter_benchmark(iterator, num_iter, warmup, self.max_time_seconds)
        if msg is not None:
            self._log_time(msg, mean, seconds)
        return mean, seconds

    def _log_time(self, msg: str, avg: float, all_times: list[float], distributed: bool = False) -> None:
        """Log mean and percentiles in milliseconds; if distributed, one line for each process, in the main one."""
        points = [round(1000 * float(value), 1) for value in np.percentile(all_times, [1, 5, 50, 95, 99])]
        rows = comm.gather((avg, points)) if distributed else [(avg, points)]
        for rank, (mean, percentiles) in enumerate(rows):
            who = f" (process {rank})" if distributed else ""
            logger.info(
                f"{msg}{who}: {1000 * mean:.1f} ms on average; 1, 5, 50, 95, 99 % within {percentiles} ms; "
                f"{1 / max(mean, 1e-12):.1f} per second"
            )

    def _loader(self, dataset: Any, num_workers: int) -> Iterable[Any]:
        return build_batch_data_loader(
            MapDataset(dataset, self.mapper) if dataset is self.dataset else dataset,
            self.sampler,
            self.total_batch_size,
            num_workers=num_workers,
        )

    def benchmark_dataset(self, num_iter: int, warmup: int = 5) -> None:
        """Time the reading of records alone."""
        records = (self.dataset[index] for index in self.sampler)
        self._benchmark(records, num_iter, warmup, "records, read in this process")

    def benchmark_mapper(self, num_iter: int, warmup: int = 5) -> None:
        """Time reading and mapping, in this process."""
        items = (self.mapper(self.dataset[index]) for index in self.sampler)
        self._benchmark(items, num_iter, warmup, "items, read and mapped in this process")

    def benchmark_workers(self, num_iter: int, warmup: int = 10) -> None:
        """Time batches of the loader, without and with worker processes."""
        for num_workers in sorted({0, self.num_workers}):
            batches = iter(self._loader(self.dataset, num_workers))
            self._benchmark(batches, num_iter, warmup, f"batches of the loader with {num_workers} workers")

    def benchmark_IPC(self, num_iter: int, warmup: int = 10) -> None:
        """Time batches whose items stay in the workers; what the loader needs beyond this is the transfer."""
        stay = _EmptyMapDataset(MapDataset(self.dataset, self.mapper))
        batches = iter(self._loader(stay, self.num_workers))
        self._benchmark(batches, num_iter, warmup, f"batches that stay in {self.num_workers} workers")

    def benchmark_distributed(self, num_iter: int, warmup: int = 10) -> None:
        """Time batches of the loader in all processes of the group at once; all of them call this."""
        batches = iter(self._loader(self.dataset, self.num_workers))
        comm.synchronize()
        mean, seconds = self._benchmark(batches, num_iter, warmup)
        comm.synchronize()
        self._log_time("batches of the loader", mean, seconds, distributed=True)
