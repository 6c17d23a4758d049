"""Batches whose members belong to one group."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data.sampler import BatchSampler, Sampler


class GroupedBatchSampler(BatchSampler):
    """Collect the indices of `sampler` by group and yield a batch when a group has `batch_size` of them.

    Args:
        sampler: yields indices into `group_ids`; order is kept as far as grouping allows.
        group_ids: the group of each index.
        batch_size: indices per batch. What is left in the groups at the end is dropped.
    """

    def __init__(self, sampler, group_ids, batch_size):
        if not isinstance(sampler, Sampler):
            raise ValueError(f"GroupedBatchSampler needs a torch Sampler, got {sampler!r}")
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        if self.group_ids.ndim != 1:
            raise ValueError(f"group_ids should have one axis, got shape {self.group_ids.shape}")
        self.batch_size = batch_size
        self.buffer_per_group: dict[int, list[int]] = {group: [] for group in np.unique(self.group_ids).tolist()}

    def __iter__(self) -> Iterator[list[int]]:
        for index in self.sampler:
            buffer = self.buffer_per_group[self.group_ids[index].item()]
            buffer.append(index)
            if len(buffer) == self.batch_size:
                # a copy goes out: the buffer is used again
                yield buffer[:]
                buffer.clear()

    def __len__(self) -> int:
        raise NotImplementedError("how many batches there are depends on the order of the groups")
