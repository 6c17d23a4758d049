"""Torch's layers with what R-CNN models need on top: convolutions with norm and activation, losses over no samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.layers import winograd
from detectron2.layers.batch_norm import FrozenBatchNorm2d

BatchNorm2d = nn.BatchNorm2d
ConvTranspose2d = nn.ConvTranspose2d
Linear = nn.Linear
interpolate = F.interpolate


def check_if_dynamo_compiling() -> bool:
    """True while torch.compile traces the caller."""
    return torch.compiler.is_dynamo_compiling()


def disable_torch_compiler(func: Callable) -> Callable:
    """Keep torch.compile from tracing into ``func``."""
    return torch.compiler.disable(func)


def shapes_to_tensor(x: Sequence[int | Tensor], device: torch.device | None = None) -> Tensor:
    """Turn a shape into a 1-D tensor; sizes that are tensors (while tracing) stay part of the graph."""
    if len(x) > 0 and all(isinstance(size, Tensor) for size in x):
        return torch.stack([torch.as_tensor(size, device=device) for size in x])
    return torch.as_tensor(list(x), device=device)


def at_most(size: Any, limit: int) -> Any:
    """The smaller int of the two; a size that is a tensor (while tracing) is compared anew when the graph runs."""
    return size.clamp(max=limit) if isinstance(size, Tensor) else min(size, limit)


def move_device_like(src: Tensor, dst: Tensor) -> Tensor:
    """Return ``src`` on the device of ``dst``."""
    return src.to(dst.device)


class _NewEmptyTensorOp(torch.autograd.Function):
    """`apply(x, shape)`: an empty tensor that stays connected to `x`, for layers that cannot run on no boxes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, new_shape: Sequence[int]) -> Tensor:
        ctx.shape = x.shape
        return x.new_empty(new_shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.shape), None


def channels_last_if_faster(x: Tensor) -> Tensor:
    """Lay out (N, C, H, W) features with a pixel's channels side by side where convolutions then run faster.

    That is on a CPU without gradients; the shape and the values stay. What follows keeps the layout.
    """
    if x.device.type == "cpu" and x.dim() == 4 and not torch.is_grad_enabled() and not torch.jit.is_tracing():
        return x.contiguous(memory_format=torch.channels_last)
    return x


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``torch.cat`` that does not copy when there is a single tensor."""
    assert isinstance(tensors, (list, tuple)), f"cat takes a list or tuple of tensors, got {type(tensors)}"
    if len(tensors) == 1:
        return tensors[0]
    return torch.cat(tensors, dim)


def empty_input_loss_func_wrapper(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make the mean of a loss over no samples 0 with a gradient, where torch answers NaN."""

    @functools.wraps(loss_func, assigned=("__module__", "__doc__"))
    def wrapped_loss_func(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any) -> Tensor:
        if target.numel() == 0 and reduction == "mean":
            # A product keeps the graph connected: data-parallel training waits for every parameter's gradient.
            return input.sum() * 0.0
        return loss_func(input, target, reduction=reduction, **kwargs)

    return wrapped_loss_func


cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """Indices of the non-zero elements, one tensor per dimension; a scalar counts as one element."""
    if x.dim() == 0:
        x = x.unsqueeze(0)
    return x.nonzero(as_tuple=True)


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` followed by an optional norm and an optional activation.

    Args:
        norm: module applied to the convolution's output, or None. Its parameters live under ``norm.``.
        activation: callable applied last, or None.
        The others are those of ``torch.nn.Conv2d``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        norm = kwargs.pop("norm", None)
        activation = kwargs.pop("activation", None)
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        if x.numel() == 0 and self.training and isinstance(self.norm, nn.SyncBatchNorm):
            raise AssertionError("SyncBatchNorm does not support empty inputs!")
        if self._can_fold_norm(x):
            x = self._conv_with_folded_norm(x)
        else:
            x = self._convolve(x, self.weight, self.bias)
            if self.norm is not None:
                x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if winograd.is_worthwhile(self, x):
            return winograd.convolve(x, weight, bias)
        return self._conv_forward(x, weight, bias)

    def _can_fold_norm(self, x: Tensor) -> bool:
        # A subclass or a hook of the norm may do more than the affine map; reduced precision rounds the product.
        norm = self.norm
        return (
            type(norm) is FrozenBatchNorm2d
            and not (norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks)
            and x.dtype == self.weight.dtype == norm.weight.dtype == torch.float32
            and not torch.is_autocast_enabled(x.device.type)
            and not torch.jit.is_tracing()
        )

    def _conv_with_folded_norm(self, x: Tensor) -> Tensor:
        """Convolve with the constant norm multiplied into the weight: one pass over the output less or two.

        The product is made anew each time. It costs about as much as checking whether a kept one still holds, because
        writes through ``.data`` leave no trace in a tensor's version, and it lets gradients reach the weight.
        """
        scale, shift = self.norm.scale_and_shift()
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self._convolve(x, self.weight * scale.view(-1, 1, 1, 1), shift)
