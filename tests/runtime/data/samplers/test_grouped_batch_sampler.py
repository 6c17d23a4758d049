import pytest
from torch.utils.data import SequentialSampler

from detectron2.data.samplers import GroupedBatchSampler


def test_batches_hold_one_group():
    sampler = GroupedBatchSampler(SequentialSampler(range(7)), [0, 1, 0, 1, 1, 0, 0], 2)
    assert [batch for batch in iter(sampler)] == [[0, 2], [1, 3], [5, 6]]  # noqa: C416 — list() would ask for a length
    assert sampler.buffer_per_group == {0: [], 1: [4]}


def test_it_wants_a_sampler_and_has_no_length():
    with pytest.raises(ValueError, match="needs a torch Sampler"):
        GroupedBatchSampler([0, 1], [0, 0], 1)
    with pytest.raises(NotImplementedError):
        len(GroupedBatchSampler(SequentialSampler([0]), [0], 1))
