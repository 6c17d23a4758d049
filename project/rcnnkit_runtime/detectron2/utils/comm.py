"""Ranks and collectives of distributed training; every function also works, trivially, in a single process.

"Local" means on this machine. Objects travel pickled over gloo, so they need no GPU memory.
"""

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

__all__ = [
    "all_gather",
    "create_local_process_group",
    "gather",
    "get_local_process_group",
    "get_local_rank",
    "get_local_size",
    "get_rank",
    "get_world_size",
    "is_main_process",
    "reduce_dict",
    "shared_random_seed",
    "synchronize",
]

_LOCAL_PROCESS_GROUP = None
_MISSING_LOCAL_PG_ERROR = (
    "There is no local process group yet. detectron2's `launch()` creates it; processes started in another way "
    "call comm.create_local_process_group(num_workers_per_machine) after torch.distributed.init_process_group()."
)


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes on all machines together; 1 without distributed training."""
    return dist.get_world_size() if _initialized() else 1


def get_rank() -> int:
    """This process's index among all, from 0."""
    return dist.get_rank() if _initialized() else 0


@functools.lru_cache
def create_local_process_group(num_workers_per_machine: int) -> None:
    """Make the group of processes on this machine. Every process of the job must call it, with the same number.

    Args:
        num_workers_per_machine: processes on each machine (equal on all machines).
    """
    global _LOCAL_PROCESS_GROUP
    if _LOCAL_PROCESS_GROUP is not None:
        raise RuntimeError("the local process group exists already; it can be created once per process")
    world_size = get_world_size()
    if world_size % num_workers_per_machine != 0:
        raise ValueError(f"{world_size} processes do not divide into machines of {num_workers_per_machine}")
    mine = get_rank() // num_workers_per_machine
    for machine in range(world_size // num_workers_per_machine):
        first = machine * num_workers_per_machine
        # Creating a group is collective: each process takes part in all of them and keeps its own.
        group = dist.new_group(list(range(first, first + num_workers_per_machine)))
        if machine == mine:
            _LOCAL_PROCESS_GROUP = group


def get_local_process_group():
    """The group of the processes on this machine."""
    assert _LOCAL_PROCESS_GROUP is not None, _MISSING_LOCAL_PG_ERROR
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """This process's index on its machine, from 0."""
    return dist.get_rank(group=get_local_process_group()) if _initialized() else 0


def get_local_size() -> int:
    """Number of processes on this machine."""
    return dist.get_world_size(group=get_local_process_group()) if _initialized() else 1


def is_main_process() -> bool:
    """Whether this is rank 0 of the whole job, the one that writes files and prints."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process is here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        # Without the device NCCL guesses one from the rank and may block on a GPU that is not ours.
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


@functools.lru_cache
def _get_global_gloo_group():
    """All processes, over gloo: pickled objects live in CPU memory."""
    if dist.get_backend() == "nccl":
        return dist.new_group(backend="gloo")
    return dist.group.WORLD


def _gathering_group(group) -> tuple[Any, int]:
    """The group that gathers objects (default a gloo group of all processes), and its size."""
    if get_world_size() == 1:
        return group, 1
    group = _get_global_gloo_group() if group is None else group
    return group, dist.get_world_size(group)


def all_gather(data: Any, group=None) -> list[Any]:
    """Collect one picklable object of every process, in every process.

    Args:
        data: any picklable object.
        group: a CPU (gloo) process group; all processes by default.

    Returns:
        The objects in the order of ranks.
    """
    group, size = _gathering_group(group)
    if size == 1:
        return [data]
    gathered: list[Any] = [None] * size
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group=None) -> list[Any]:
    """Collect one picklable object of every process in rank `dst`; the other ranks get an empty list.

    Args:
        data: any picklable object.
        dst: the receiving rank.
        group: a CPU (gloo) process group; all processes by default.
    """
    group, size = _gathering_group(group)
    if size == 1:
        return [data]
    if dist.get_rank() != dst:
        dist.gather_object(data, None, dst=dst, group=group)
        return []
    gathered: list[Any] = [None] * size
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered


def shared_random_seed() -> int:
    """A seed in [0, 2**31), the same in every process; all of them must call. Draws from numpy's global state."""
    return all_gather(int(np.random.randint(2**31)))[0]  # noqa: NPY002


def reduce_dict(input_dict: dict[str, torch.Tensor], average: bool = True) -> dict[str, torch.Tensor]:
    """Sum or average scalars of the same names over all processes.

    Args:
        input_dict: name → scalar tensor, on the device that the backend communicates on; the same names everywhere.
        average: mean instead of sum.

    Returns:
        The reduced values. Correct in rank 0 only; other ranks hold intermediate ones.
    """
    world_size = get_world_size()
    if world_size < 2:
        return input_dict
    with torch.no_grad():
        # Sorted, so that processes which filled their dicts in another order still add like to like.
        names = sorted(input_dict)
        values = torch.stack([input_dict[name] for name in names], dim=0)
        dist.reduce(values, dst=0)
        if average and dist.get_rank() == 0:
            values /= world_size
        return dict(zip(names, values))
