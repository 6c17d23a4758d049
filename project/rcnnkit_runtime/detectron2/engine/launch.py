"""Starting a training on one or many processes, by itself or inside torchrun."""

import logging
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detectron2.utils import comm

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Runs `main_func(*args)` in this process or in several, with the process group set up.

    Inside torchrun (its environment variables are all set) nothing is spawned: this process joins torchrun's group and
    the other arguments do not count. Processes talk by NCCL where each has a GPU of its own, by gloo otherwise.

    Args:
        main_func: must be importable by name when processes are spawned.
        num_gpus_per_machine: processes on this machine, with or without GPUs.
        num_machines: machines in all.
        machine_rank: which of them this is.
        dist_url: "tcp://host:port" where the processes meet; "auto" finds a free port on one machine.
        args: of `main_func`.
        timeout: of the processes' communication.

    Raises:
        AssertionError: "auto" on several machines.
        ValueError: several processes but no `dist_url`.
    """
    if all(name in os.environ for name in _TORCHRUN_VARIABLES):
        _run_inside_torchrun(main_func, args, timeout)
        return
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        assert num_machines == 1, "dist_url=auto not supported in multi-machine jobs."
        dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
    if dist_url is None:
        raise ValueError(f"{world_size} processes need dist_url, e.g. tcp://host:port, or auto on one machine.")
    if num_machines > 1 and dist_url.startswith("file://"):
        logging.getLogger(__name__).warning("file:// is not a reliable dist_url on several machines; prefer tcp://")
    mp.spawn(
        _distributed_worker,
        nprocs=num_gpus_per_machine,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
        daemon=False,
    )


def _find_free_port() -> int:
    """A port that is free now; another program may take it before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


def _distributed_worker(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    num_gpus_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    _run_in_group(
        main_func,
        args,
        local_rank=local_rank,
        local_size=num_gpus_per_machine,
        init_method=dist_url,
        rank=machine_rank * num_gpus_per_machine + local_rank,
        world_size=world_size,
        timeout=timeout,
    )


def _run_inside_torchrun(main_func: Callable[..., Any], args: tuple, timeout: timedelta) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    if world_size == 1:
        main_func(*args)
        return
    _run_in_group(
        main_func,
        args,
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", world_size)),
        init_method="env://",
        rank=int(os.environ["RANK"]),
        world_size=world_size,
        timeout=timeout,
    )


def _run_in_group(
    main_func: Callable[..., Any],
    args: tuple,
    *,
    local_rank: int,
    local_size: int,
    init_method: str,
    rank: int,
    world_size: int,
    timeout: timedelta,
) -> None:
    on_gpu = torch.cuda.is_available()
    if on_gpu and local_size > torch.cuda.device_count():
        raise ValueError(
            f"{local_size} processes on this machine need as many GPUs, but it has {torch.cuda.device_count()}. "
            'Start fewer, or hide the GPUs with CUDA_VISIBLE_DEVICES="" to train on the CPU.'
        )
    if on_gpu:
        torch.cuda.set_device(local_rank)
    try:
        dist.init_process_group(
            backend="nccl" if on_gpu else "gloo",
            init_method=init_method,
            rank=rank,
            world_size=world_size,
            timeout=timeout,
        )
    except Exception:
        logging.getLogger(__name__).error(f"The processes did not find one another at {init_method}")
        raise
    comm.create_local_process_group(local_size)
    comm.synchronize()
    main_func(*args)
    # after a failure the others may not answer; the process ends then anyway
    dist.destroy_process_group()
