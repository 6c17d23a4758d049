"""Second and third tries for a computation that does not fit into GPU memory."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

__all__ = ["retry_if_cuda_oom"]

_OUT_OF_MEMORY = "CUDA out of memory. "


def _is_cuda_oom(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or _OUT_OF_MEMORY in str(error)


def _to_cpu(value: Any) -> Any:
    """Move what lies on a GPU and knows `.to`; other values pass unchanged."""
    on_gpu = getattr(getattr(value, "device", None), "type", "cpu") == "cuda"
    return value.to(device="cpu") if on_gpu and hasattr(value, "to") else value


def retry_if_cuda_oom(func: Callable) -> Callable:
    """Wrap a function of tensors so that running out of GPU memory is survived if at all possible.

    First the call as it is; then again after emptying the allocator's cache; last with every GPU argument moved to the
    CPU. The last try returns CPU tensors, so a caller that needs them on a GPU has to move them back. `func` must be
    without state: it may run up to three times.
    """

    @wraps(func)
    def wrapped(*args, **kwargs):
        for emptied in (False, True):
            try:
                return func(*args, **kwargs)
            except RuntimeError as error:
                if not _is_cuda_oom(error):
                    raise
            # Outside the handler: the traceback kept the failed call's tensors alive.
            if not emptied:
                torch.cuda.empty_cache()
        logging.getLogger(__name__).info("Out of GPU memory; running %s on the CPU instead", func)
        return func(*[_to_cpu(a) for a in args], **{k: _to_cpu(v) for k, v in kwargs.items()})

    return wrapped
