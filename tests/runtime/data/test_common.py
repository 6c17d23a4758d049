import pickle

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from detectron2.data import DatasetFromList, MapDataset, ToIterableDataset
from detectron2.data.common import (
    AspectRatioGroupedDataset,
    _roundrobin,
    _TorchSerializedList,
    set_default_dataset_from_list_serialize_method,
)
from detectron2.data.samplers import InferenceSampler

RECORDS = [{"a": 1}, {"b": [2, 3]}, {"c": "x" * 100}]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        yield from self.items


def test_serialised_records_are_equal_and_own():
    dataset = DatasetFromList(RECORDS)
    assert [dataset[i] for i in range(3)] == RECORDS
    assert dataset[-1] == RECORDS[2]
    dataset[0]["a"] = 5
    assert dataset[0] == {"a": 1}
    with pytest.raises(IndexError):
        dataset[3]
    with pytest.raises(IndexError):
        dataset[-4]


def test_records_lie_in_one_tensor_that_workers_share():
    records = _TorchSerializedList(RECORDS)
    assert records._lst.dtype == torch.uint8
    assert records._addr[-1] == len(records._lst)
    records._lst.share_memory_()
    assert pickle.loads(pickle.dumps(records))[1] == RECORDS[1]


def test_an_empty_list_has_no_records():
    assert len(DatasetFromList([])) == 0


@pytest.mark.parametrize("copied", [True, False])
def test_without_serialisation_copy_decides(copied):
    dataset = DatasetFromList(RECORDS, copy=copied, serialize=False)
    assert dataset[1] == RECORDS[1]
    assert (dataset[1]["b"] is RECORDS[1]["b"]) != copied


def test_serialisation_by_a_function():
    assert DatasetFromList(RECORDS, serialize=lambda lst: lst[::-1])[0] == RECORDS[2]
    with set_default_dataset_from_list_serialize_method(tuple):
        assert DatasetFromList(RECORDS)[1] is RECORDS[1]
    assert DatasetFromList(RECORDS)[1] is not RECORDS[1]


def test_map_replaces_what_the_function_refuses():
    dataset = MapDataset([0, 1, 2, 3], lambda x: None if x == 2 else x * 10)
    assert dataset[1] == 10
    assert dataset[2] in (0, 10, 30)
    assert len(dataset) == 4


def test_map_that_refuses_everything_says_so():
    with pytest.raises(RuntimeError, match="returned None for every one of the 2 records"):
        MapDataset([0, 1], lambda x: None)[0]


def test_map_over_a_stream_leaves_out_what_is_refused():
    assert list(MapDataset(Stream([0, 1, 2]), lambda x: None if x == 1 else x)) == [0, 2]


def test_roundrobin():
    assert list(_roundrobin([1, 2, 3], [4], [5, 6])) == [1, 4, 5, 2, 6, 3]


@pytest.mark.parametrize(
    "shard, chunk, expected",
    [
        (True, 1, [0, 1, 2, 3, 4, 5]),
        # worker 0 has 0 1 4 5, worker 1 has 2 3; the loader takes one of each in turn
        (True, 2, [0, 2, 1, 3, 4, 5]),
        (False, 1, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
    ],
)
def test_workers_share_the_sampler(shard, chunk, expected):
    dataset = ToIterableDataset(list(range(6)), InferenceSampler(6), shard, chunk)
    assert list(DataLoader(dataset, batch_size=None, num_workers=2)) == expected


def test_to_iterable_takes_a_map_style_dataset():
    assert len(ToIterableDataset([1, 2], InferenceSampler(2))) == 2
    with pytest.raises(AssertionError, match="map-style"):
        ToIterableDataset(Stream([1]), InferenceSampler(1))
    with pytest.raises(AssertionError, match="Sampler"):
        ToIterableDataset([1], [0])


def test_aspect_ratio_groups():
    sizes = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]
    stream = Stream([{"id": i, "width": w, "height": h} for i, (w, h) in enumerate(sizes)])
    grouped = AspectRatioGroupedDataset(stream, 2)
    # wide: 1 3; the others (a square counts as tall): 0 2, and 4 waits
    assert [[r["id"] for r in batch] for batch in grouped] == [[0, 2], [1, 3]]
    assert [r["id"] for r in next(iter(grouped))] == [4, 0]
