"""Samplers that split one stream of indices among the processes of a group.

The training samplers are infinite: every process draws the same stream from a shared seed and takes each
world_size-th index, so that the processes together see the stream exactly once. Two runs with one seed see one order.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch.utils.data.sampler import Sampler

from detectron2.utils import comm

logger = logging.getLogger(__name__)


def _shared_seed(seed: int | None) -> int:
    return int(comm.shared_random_seed() if seed is None else seed)


def _endless(seed: int, indices_of_round: Callable[[torch.Generator], torch.Tensor]) -> Iterator[int]:
    """Round after round of indices, all drawn from one generator."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    while True:
        yield from indices_of_round(generator).tolist()


class TrainingSampler(Sampler):
    """An endless sequence of indices: 0 … size−1, then again, each round shuffled anew.

    Args:
        size: number of records.
        shuffle: draw a permutation for each round, else keep the order.
        seed: initial seed of the shuffle, the same in all processes; None draws one and shares it.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler: size must be an int, got {size!r}")
        if size <= 0:
            raise ValueError(f"TrainingSampler: size must be positive, got {size}")
        self._size = size
        self._shuffle = shuffle
        self._seed = _shared_seed(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        def indices(generator: torch.Generator) -> torch.Tensor:
            return torch.randperm(self._size, generator=generator) if self._shuffle else torch.arange(self._size)

        return _endless(self._seed, indices)


class RandomSubsetTrainingSampler(TrainingSampler):
    """TrainingSampler over a random part of the records, chosen once.

    Args:
        size: number of records.
        subset_ratio: share of them that is used, in (0, 1].
        shuffle: as in TrainingSampler.
        seed_shuffle: seed of the order; None draws and shares one.
        seed_subset: seed of the choice; None draws and shares one.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ):
        super().__init__(size=size, shuffle=shuffle, seed=seed_shuffle)
        if not 0.0 < subset_ratio <= 1.0:
            raise AssertionError(f"subset_ratio must be in (0, 1], got {subset_ratio}")
        self._size_subset = int(size * subset_ratio)
        if self._size_subset <= 0:
            raise AssertionError(f"subset_ratio {subset_ratio} of {size} records leaves none")
        self._seed_subset = _shared_seed(seed_subset)
        generator = torch.Generator()
        generator.manual_seed(self._seed_subset)
        self._indexes_subset = torch.randperm(self._size, generator=generator)[: self._size_subset]
        logger.info(
            "Using %d of %d records (subset_ratio %g, seed %d)",
            self._size_subset,
            size,
            subset_ratio,
            self._seed_subset,
        )

    def _infinite_indices(self) -> Iterator[int]:
        def indices(generator: torch.Generator) -> torch.Tensor:
            subset = self._indexes_subset
            return subset[torch.randperm(self._size_subset, generator=generator)] if self._shuffle else subset

        return _endless(self._seed, indices)


class RepeatFactorTrainingSampler(Sampler):
    """TrainingSampler in which record i appears repeat_factors[i] times per round on average (LVIS, Gupta et al. 2019).

    Args:
        repeat_factors: (N,) float tensor; the fraction is rounded at random, anew in each round.
        shuffle: shuffle each round.
        seed: initial seed, the same in all processes; None draws one and shares it.
    """

    def __init__(self, repeat_factors, *, shuffle=True, seed=None):
        self._shuffle = shuffle
        self._seed = _shared_seed(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(dataset_dicts, repeat_thresh, sqrt=True) -> torch.Tensor:
        """Repeat factor of each record: the largest over its categories c of max(1, sqrt(thresh / f(c))).

        Args:
            dataset_dicts: records with "annotations".
            repeat_thresh: frequency below which a category is repeated.
            sqrt: take the square root of the ratio, as published; else the ratio.

        Returns:
            (N,) float32. f(c) is the share of the images that have category c; a record without objects gets 1.
        """
        categories_per_image = [{ann["category_id"] for ann in record["annotations"]} for record in dataset_dicts]
        images_with: Counter[int] = Counter()
        for categories in categories_per_image:
            images_with.update(categories)
        repeat = {}
        for category, count in images_with.items():
            ratio = repeat_thresh / (count / len(dataset_dicts))
            repeat[category] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
        factors = [max((repeat[c] for c in categories), default=1.0) for categories in categories_per_image]
        return torch.tensor(factors, dtype=torch.float32)

    def _get_epoch_indices(self, generator: torch.Generator) -> torch.Tensor:
        """The indices of one round, each as often as its rounded factor says."""
        round_up = torch.rand(len(self._frac_part), generator=generator) < self._frac_part
        counts = (self._int_part + round_up.float()).long()
        return torch.repeat_interleave(torch.arange(len(counts)), counts)

    def __iter__(self) -> Iterator[int]:
        yield from islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        def indices(generator: torch.Generator) -> torch.Tensor:
            repeated = self._get_epoch_indices(generator)
            return repeated[torch.randperm(len(repeated), generator=generator)] if self._shuffle else repeated

        return _endless(self._seed, indices)


class InferenceSampler(Sampler):
    """Every record once: each process takes a contiguous part, sizes differing by at most one."""

    def __init__(self, size: int):
        if size <= 0:
            raise AssertionError(f"InferenceSampler needs at least one record, got {size}")
        self._size = size
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()
        self._local_indices = self._get_local_indices(size, self._world_size, self._rank)

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        """The part of `rank`; the first total_size mod world_size processes take one more."""
        share, extra = divmod(total_size, world_size)
        begin = rank * share + min(rank, extra)
        return range(begin, begin + share + (rank < extra))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
