"""Whether torch.fx is tracing, and assertions that survive it."""

import torch
from torch.fx._symbolic_trace import is_fx_tracing as _is_fx_tracing

from detectron2.utils.env import TORCH_VERSION

__all__ = ["TORCH_VERSION", "assert_fx_safe", "is_fx_tracing"]


def is_fx_tracing() -> bool:
    """Whether this runs under torch.fx's symbolic tracing, where tensors are stand-ins without values."""
    return _is_fx_tracing()


def assert_fx_safe(condition: bool, message: str) -> torch.Tensor:
    """Assert outside of symbolic tracing, where a condition on stand-ins has no truth.

    Returns:
        A tensor of one element, for code that wants the check to be part of a graph.
    """
    if not (is_fx_tracing() or torch.jit.is_scripting()):
        assert condition, message
    return torch.zeros(1)
