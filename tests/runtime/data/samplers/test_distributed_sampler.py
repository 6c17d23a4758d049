from itertools import islice

import pytest
import torch

from detectron2.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm


def take(sampler, count):
    return list(islice(iter(sampler), count))


def as_two_processes(monkeypatch, make, count):
    streams = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        streams.append(take(make(), count))
    return streams


# The orders below are recorded from stock Detectron2: resuming and comparing runs depend on them.


def test_training_order():
    assert take(TrainingSampler(5, True, 3), 12) == [1, 0, 3, 4, 2, 0, 1, 2, 4, 3, 1, 4]
    assert take(TrainingSampler(3, False), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_two_processes_see_the_stream_once(monkeypatch):
    streams = as_two_processes(monkeypatch, lambda: TrainingSampler(5, True, 3), 4)
    assert streams == [[1, 3, 2, 1], [0, 4, 0, 2]]


def test_training_size_is_checked():
    with pytest.raises(ValueError, match="must be positive, got 0"):
        TrainingSampler(0)
    with pytest.raises(TypeError, match="must be an int"):
        TrainingSampler(5.0)


def test_subset_order():
    assert take(RandomSubsetTrainingSampler(10, 0.45, True, 3, 4), 12) == [9, 6, 4, 0, 6, 9, 4, 0, 0, 6, 4, 9]
    assert take(RandomSubsetTrainingSampler(10, 0.4, False, 3, 4), 6) == [0, 4, 9, 6, 0, 4]
    for ratio in (0.0, 1.4, 0.05):
        with pytest.raises(AssertionError, match="subset_ratio"):
            RandomSubsetTrainingSampler(10, ratio)


def test_repeat_factor_order(monkeypatch):
    factors = torch.tensor([1.0, 2.5, 1.3, 1.0])
    expected = [0, 1, 1, 2, 2, 3, 1, 0, 3, 1, 2, 2, 1, 2, 2, 0, 3, 1, 1, 1, 0, 3, 2, 1]
    assert take(RepeatFactorTrainingSampler(factors, seed=3), 24) == expected
    unshuffled = take(RepeatFactorTrainingSampler(factors, seed=3, shuffle=False), 12)
    assert unshuffled == [0, 1, 1, 1, 2, 2, 3, 0, 1, 1, 1, 2]
    streams = as_two_processes(monkeypatch, lambda: RepeatFactorTrainingSampler(factors, seed=3), 4)
    assert streams == [expected[0:8:2], expected[1:8:2]]


def test_repeat_factors_from_frequency():
    records = [{"annotations": [{"category_id": c} for c in cs]} for cs in ([0, 0], [0, 1], [2], [], [0])]
    compute = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    # f(0) = 3/5 is common enough; f(1) = f(2) = 1/5 → 0.5 / 0.2 = 2.5
    torch.testing.assert_close(compute(records, 0.5, sqrt=False), torch.tensor([1.0, 2.5, 2.5, 1.0, 1.0]))
    torch.testing.assert_close(compute(records, 0.5), torch.tensor([1.0, 2.5**0.5, 2.5**0.5, 1.0, 1.0]))


@pytest.mark.parametrize(
    "size, world, parts",
    [
        (10, 3, [range(4), range(4, 7), range(7, 10)]),
        (2, 3, [range(1), range(1, 2), range(2, 2)]),
    ],
)
def test_inference_parts(size, world, parts):
    assert [InferenceSampler._get_local_indices(size, world, rank) for rank in range(world)] == parts


def test_inference_needs_records():
    assert list(InferenceSampler(3)) == [0, 1, 2]
    with pytest.raises(AssertionError):
        InferenceSampler(0)
