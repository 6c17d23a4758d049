"""Numbers that half precision is too coarse for."""

import torch


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Half precision as float32: logarithms of probabilities and places between grid positions need it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
