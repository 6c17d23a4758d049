"""Wrapping a model for distributed training."""

import warnings
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from detectron2.utils import comm


def create_ddp_model(model: torch.nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> torch.nn.Module:
    """The model in `DistributedDataParallel` when there are several processes, itself otherwise.

    Args:
        model: on a GPU or the CPU.
        fp16_compression: send gradients in half precision.
        **kwargs: of `DistributedDataParallel`.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = any(parameter.device.type == "cuda" for parameter in model.parameters())
    if "device_ids" not in kwargs:
        kwargs["device_ids"] = [comm.get_local_rank()] if on_gpu else None
    with warnings.catch_warnings():
        # the successor of `broadcast_buffers` does not exist in every torch that is supported
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        wrapped = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        wrapped.register_comm_hook(state=None, hook=default_hooks.fp16_compress_hook)
    return wrapped
