"""Datasets that wrap datasets: records in shared memory, mapping, sharding over loader workers, grouping by shape."""

from __future__ import annotations

import copy
import io
import itertools
import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torch.utils.data.sampler import Sampler

from detectron2.utils.serialize import PicklableWrapper

__all__ = ["AspectRatioGroupedDataset", "DatasetFromList", "MapDataset", "ToIterableDataset"]

logger = logging.getLogger(__name__)


def _roundrobin(*iterables: Iterable) -> Iterator:
    """One of each iterable in turn, until all are exhausted: ([1, 2, 3], [4]) → 1, 4, 2, 3."""
    nothing = object()
    for row in itertools.zip_longest(*iterables, fillvalue=nothing):
        for item in row:
            if item is not nothing:
                yield item


def _shard_iterator_dataloader_worker(iterable: Iterable, chunk_size: int = 1) -> Iterator:
    """The part of `iterable` that the calling loader worker has to do: every num_workers-th chunk."""
    worker = get_worker_info()
    if worker is None or worker.num_workers == 1:
        yield from iterable
        return
    first = worker.id * chunk_size
    period = worker.num_workers * chunk_size
    for position, item in enumerate(iterable):
        if first <= position % period < first + chunk_size:
            yield item


class _MapIterableDataset(IterableDataset):
    """Map a function over an iterable dataset; an item for which it returns None is left out."""

    def __init__(self, dataset, map_func):
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator:
        for item in self._dataset:
            mapped = self._map_func(item)
            if mapped is not None:
                yield mapped


class MapDataset(Dataset):
    """Map a function over the records of a dataset, lazily.

    A function that returns None says that the record is not usable: another one takes its place, drawn from those that
    worked before. For an iterable dataset such a record is left out.

    Args:
        dataset: map-style or iterable.
        map_func: record → item, or None.
    """

    _WARN_AFTER = 3

    def __init__(self, dataset, map_func):
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)
        self._rng = random.Random(42)
        self._fallback_candidates = set(range(len(dataset)))

    def __new__(cls, dataset, map_func):
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __getnewargs__(self):
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        current = int(idx)
        for attempt in itertools.count(1):
            item = self._map_func(self._dataset[current])
            if item is not None:
                self._fallback_candidates.add(current)
                return item
            self._fallback_candidates.discard(current)
            if not self._fallback_candidates:
                raise RuntimeError(f"the mapper returned None for every one of the {len(self)} records tried")
            if attempt >= self._WARN_AFTER:
                logger.warning("record %s: the mapper has returned None %s times in a row", idx, attempt)
            current = self._rng.sample(sorted(self._fallback_candidates), k=1)[0]
        return None


class _TorchSerializedList:
    """A list pickled into one tensor: forked workers share its pages, because reading changes no reference counts."""

    def __init__(self, lst: list):
        buffer = io.BytesIO()
        ends = np.empty(len(lst), dtype=np.int64)
        for position, record in enumerate(lst):
            buffer.write(pickle.dumps(record, protocol=-1))
            ends[position] = buffer.tell()
        self._addr = torch.from_numpy(ends)
        self._lst = torch.from_numpy(np.frombuffer(buffer.getbuffer(), dtype=np.uint8))
        logger.info("Serialized %d records into %.2f MiB of shared memory", len(lst), len(self._lst) / 1024**2)

    def __len__(self) -> int:
        return len(self._addr)

    def __getitem__(self, idx: int) -> Any:
        size = len(self._addr)
        position = int(idx) + size if idx < 0 else int(idx)
        if not 0 <= position < size:
            raise IndexError(f"index {idx} is out of range for a list of {size} records")
        start = 0 if position == 0 else int(self._addr[position - 1])
        return pickle.loads(self._lst[start : int(self._addr[position])].numpy().data)


_DEFAULT_DATASET_FROM_LIST_SERIALIZE_METHOD: Callable[[list], Any] = _TorchSerializedList


def set_default_dataset_from_list_serialize_method(new):
    """A context in which DatasetFromList serialises with `new` (list → sequence)."""
    from contextlib import contextmanager

    @contextmanager
    def replaced():
        global _DEFAULT_DATASET_FROM_LIST_SERIALIZE_METHOD
        before = _DEFAULT_DATASET_FROM_LIST_SERIALIZE_METHOD
        _DEFAULT_DATASET_FROM_LIST_SERIALIZE_METHOD = new
        try:
            yield
        finally:
            _DEFAULT_DATASET_FROM_LIST_SERIALIZE_METHOD = before

    return replaced()


class DatasetFromList(Dataset):
    """A list as a dataset.

    Args:
        lst: the records.
        copy: give out deep copies, so that a mapper may change them in place.
        serialize: keep the records pickled in shared memory (then each one read is a copy anyway); a function
            (list → sequence) chooses how.
    """

    def __init__(self, lst: list, copy: bool = True, serialize: bool | Callable = True):
        self._lst: Any = lst
        self._copy = copy
        if not isinstance(serialize, bool) and not callable(serialize):
            raise TypeError(f"serialize must be True, False or a function, got {serialize!r}")
        self._serialize = serialize is not False
        if self._serialize:
            method = serialize if callable(serialize) else _DEFAULT_DATASET_FROM_LIST_SERIALIZE_METHOD
            self._lst = method(lst)

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        if self._copy and not self._serialize:
            return copy.deepcopy(self._lst[idx])
        return self._lst[idx]


class ToIterableDataset(IterableDataset):
    """A map-style dataset in the order of a sampler, as an iterable dataset.

    Args:
        dataset: map-style.
        sampler: yields indices.
        shard_sampler: split the sampler's indices among the loader's workers (else each worker yields all of them).
        shard_chunk_size: indices that a worker takes at a time.
    """

    def __init__(self, dataset: Dataset, sampler: Sampler, shard_sampler: bool = True, shard_chunk_size: int = 1):
        if isinstance(dataset, IterableDataset):
            raise AssertionError(f"ToIterableDataset needs a map-style dataset, got {type(dataset).__name__}")
        if not isinstance(sampler, Sampler):
            raise AssertionError(f"ToIterableDataset needs a torch Sampler, got {type(sampler).__name__}")
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size

    def __iter__(self) -> Iterator:
        indices: Iterable[int] = self.sampler
        if self.shard_sampler:
            indices = _shard_iterator_dataloader_worker(self.sampler, self.shard_chunk_size)
        for idx in indices:
            yield self.dataset[idx]

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


class AspectRatioGroupedDataset(IterableDataset):
    """Batches of wide images and batches of tall images, which saves padding.

    Args:
        dataset: iterable over dicts with "width" and "height".
        batch_size: dicts per batch. A group that is not full at the end waits for the next iteration.
    """

    def __init__(self, dataset, batch_size):
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: list[list[dict]] = [[], []]

    def __iter__(self) -> Iterator[list[dict]]:
        for record in self.dataset:
            bucket = self._buckets[0 if record["width"] > record["height"] else 1]
            bucket.append(record)
            if len(bucket) == self.batch_size:
                batch = bucket[:]
                # emptied before it is given out: a consumer may stop here for ever
                bucket.clear()
                yield batch
