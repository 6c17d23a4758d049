"""Collectives, alone and between two processes over gloo."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detectron2.utils import comm


def test_alone():
    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_size(), comm.get_local_rank()) == (1, 0, 1, 0)
    assert comm.is_main_process()
    assert comm.all_gather("x") == ["x"] and comm.gather("x") == ["x"]
    comm.synchronize()
    values = {"a": torch.tensor(1.0)}
    assert comm.reduce_dict(values) is values
    np.random.seed(3)  # noqa: NPY002
    seed = comm.shared_random_seed()
    np.random.seed(3)  # noqa: NPY002
    assert seed == comm.shared_random_seed() and 0 <= seed < 2**31


def test_missing_local_group_says_what_to_do():
    with pytest.raises(AssertionError, match="create_local_process_group"):
        comm.get_local_process_group()


def _worker(rank: int, world_size: int, per_machine: int, address: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    comm.create_local_process_group(per_machine)
    np.random.seed(rank)  # noqa: NPY002
    # Filled in another order on each rank.
    names = ["a", "b"] if rank == 0 else ["b", "a"]
    values = {name: torch.tensor(float(rank + 1) * (10 if name == "a" else 1)) for name in names}
    averages = comm.reduce_dict(values)
    sums = comm.reduce_dict(values, average=False)
    result = {
        "rank": (comm.get_rank(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size()),
        "main": comm.is_main_process(),
        "all": comm.all_gather({"rank": rank, "payload": "x" * 10 ** (rank + 1)}),
        "gathered": comm.gather(rank, dst=1),
        "local": comm.all_gather(rank, group=comm.get_local_process_group()),
        "seed": comm.shared_random_seed(),
        "averages": {name: value.item() for name, value in averages.items()},
        "sums": {name: value.item() for name, value in sums.items()},
    }
    comm.synchronize()
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("per_machine", "local"), [(2, [(0, 2), (1, 2)]), pytest.param(1, [(0, 1), (0, 1)], marks=pytest.mark.slow)]
)
def test_two_processes(tmp_path, per_machine, local):
    address = f"file://{tmp_path}/rendezvous"
    mp.spawn(_worker, args=(2, per_machine, address, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert [first["rank"], second["rank"]] == [(rank, 2, *local[rank]) for rank in (0, 1)]
    assert (first["main"], second["main"]) == (True, False)
    assert first["all"] == second["all"] == [{"rank": rank, "payload": "x" * 10 ** (rank + 1)} for rank in (0, 1)]
    assert (first["gathered"], second["gathered"]) == ([], [0, 1])
    assert [first["local"], second["local"]] == ([[0, 1], [0, 1]] if per_machine == 2 else [[0], [1]])
    assert first["seed"] == second["seed"]
    # a: 10 and 20, b: 1 and 2; rank 0 holds the result
    assert first["averages"] == {"a": 15.0, "b": 1.5}
    assert first["sums"] == {"a": 30.0, "b": 3.0}
