"""Normalisation layers and the names under which configs ask for them.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import BatchNorm2d
from torch.nn import functional as F


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are constants (buffers).

    Computes ``(x - running_mean) / sqrt(running_var + eps) * weight + bias`` per channel. A fresh module is the
    identity, so ``running_var`` starts at ``1 - eps``.

    Args:
        num_features: C.
        eps: added to the variance.
    """

    _version = 3

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The layer as ``x * scale + shift``: two tensors of shape (C,)."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape and dtype."""
        if x.requires_grad:
            # F.batch_norm would keep x for the gradients of weight and bias, which nobody asks for.
            scale, shift = (t.to(x.dtype).view(1, -1, 1, 1) for t in self.scale_and_shift())
            return x * scale + shift
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if (local_metadata.get("version") or 1) < 2:
            # The first version stored the affine parameters only; its statistics were those of the identity.
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Replace every BatchNorm2d / SyncBatchNorm in ``module`` by its frozen form.

        Returns:
            ``module`` itself with children replaced, or the new layer if ``module`` is a batch norm.
        """
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = cls(module.num_features, module.eps)
            _share_batch_norm_state(module, frozen)
            return frozen
        return _convert_children(module, cls.convert_frozen_batchnorm)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """Replace every FrozenBatchNorm2d in ``module`` by a trainable BatchNorm2d; returns as the inverse does."""
        if isinstance(module, FrozenBatchNorm2d):
            trainable = nn.BatchNorm2d(module.num_features, module.eps)
            trainable.weight.data = module.weight.clone().detach()
            trainable.bias.data = module.bias.clone().detach()
            trainable.running_mean = module.running_mean.clone().detach()
            trainable.running_var = module.running_var.clone().detach()
            trainable.num_batches_tracked = getattr(module, "num_batches_tracked", None)
            return trainable.train(module.training)
        return _convert_children(module, cls.convert_frozenbatchnorm2d_to_batchnorm2d)


def _share_batch_norm_state(source: Any, frozen: FrozenBatchNorm2d) -> None:
    if source.affine:
        frozen.weight = source.weight.detach().clone()
        frozen.bias = source.bias.detach().clone()
    if source.running_mean is not None and source.running_var is not None:
        frozen.running_mean = source.running_mean.detach().clone()
        frozen.running_var = source.running_var.detach().clone()
    if source.num_batches_tracked is not None:
        # Kept so that a model has the same checkpoint keys before and after freezing.
        frozen.register_buffer("num_batches_tracked", source.num_batches_tracked)
    frozen.train(source.training)


def _convert_children(module: nn.Module, convert: Callable[[nn.Module], nn.Module]) -> nn.Module:
    for name, child in module.named_children():
        replacement = convert(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


class NaiveSyncBatchNorm(BatchNorm2d):
    """Batch norm over the images of all processes, by averaging statistics with a differentiable all-reduce.

    Args:
        stats_mode: "" gives every process the same weight and refuses empty inputs; "N" weighs a process by its number
            of images, so that processes may hold different numbers, none included.
        The others are those of ``torch.nn.BatchNorm2d``.
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert stats_mode in ("", "N"), f"stats_mode is '' or 'N', got {stats_mode!r}"
        self._stats_mode = stats_mode

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if not self.training or processes == 1:
            return super().forward(input)
        half = input.dtype in (torch.float16, torch.bfloat16)
        x = input.float() if half else input
        mean, mean_of_squares, seen = self._global_moments(x, processes)
        var = mean_of_squares - mean * mean
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            # Moments of no image at all say nothing: seen is 0 then and the running statistics stay.
            momentum = seen * (self.momentum if self.momentum is not None else 0.1)
            self.running_mean += momentum * (mean.detach() - self.running_mean)
            self.running_var += momentum * (var.detach() - self.running_var)
        scale = (var + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias
        out = x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return out.to(input.dtype) if half else out

    def _global_moments(self, x: Tensor, processes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Per-channel mean and mean of squares over all processes, (C,) each, and 1 if there was an image, else 0."""
        num_channels = x.shape[1]
        if x.shape[0] == 0:
            assert self._stats_mode == "N", 'NaiveSyncBatchNorm takes empty inputs only with stats_mode "N"'
            # Summing nothing keeps the backward all-reduce of the other processes matched.
            moments = x.new_zeros(2 * num_channels) + x.sum()
        else:
            moments = torch.cat([x.mean(dim=(0, 2, 3)), (x * x).mean(dim=(0, 2, 3))])
        if self._stats_mode == "":
            mean, mean_of_squares = (differentiable_all_reduce(moments) / processes).chunk(2)
            return mean, mean_of_squares, moments.new_ones(())
        weighted = torch.cat([moments * x.shape[0], moments.new_full((1,), float(x.shape[0]))])
        total = differentiable_all_reduce(weighted)
        num_images = total[-1].detach()
        mean, mean_of_squares = (total[:-1] / num_images.clamp(min=1)).chunk(2)
        return mean, mean_of_squares, num_images.clamp(max=1)


class CycleBatchNormList(nn.ModuleList):
    """Batch norms with statistics of their own that share one affine transform and take turns.

    A head shared by several feature levels calls it once per level, in a fixed order.

    Args:
        length: number of turns, that is of levels.
        bn_class: class of the norms.
        kwargs: arguments of ``bn_class``; must name ``num_features``.
    """

    def __init__(self, length: int, bn_class: Callable[..., nn.Module] = nn.BatchNorm2d, **kwargs: Any) -> None:
        self._affine = kwargs.pop("affine", True)
        super().__init__([bn_class(**kwargs, affine=False) for _ in range(length)])
        if self._affine:
            num_channels = kwargs["num_features"]
            self.weight = nn.Parameter(torch.ones(num_channels))
            self.bias = nn.Parameter(torch.zeros(num_channels))
        self._pos = 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) by the statistics whose turn it is."""
        out = self[self._pos](x)
        self._pos = (self._pos + 1) % len(self)
        if self._affine:
            return torch.addcmul(self.bias.view(1, -1, 1, 1), out, self.weight.view(1, -1, 1, 1))
        return out

    def extra_repr(self) -> str:
        return f"affine={self._affine}"


class LayerNorm(nn.Module):
    """Layer norm over the channels of (N, C, H, W), per pixel.

    Args:
        normalized_shape: C.
        eps: added to the variance.
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        channels_last = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return channels_last.permute(0, 3, 1, 2).contiguous()


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": lambda channels: NaiveSyncBatchNorm(channels, stats_mode="N"),
    "LN": LayerNorm,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Build a norm layer from its config name.

    Args:
        norm: BN, SyncBN, FrozenBN, GN, nnSyncBN, naiveSyncBN, naiveSyncBN_N or LN; "" or None for no norm; or a
            callable that takes the number of channels.
        out_channels: C of the tensor to normalise.

    Raises:
        KeyError: the name is unknown.
    """
    if norm is None:
        return None
    if not isinstance(norm, str):
        return norm(out_channels)
    if norm == "":
        return None
    if norm not in _NORMS:
        names = sorted(_NORMS, key=lambda name: -difflib.SequenceMatcher(None, name.lower(), norm.lower()).ratio())
        raise KeyError(f"unknown norm {norm!r}; known: {', '.join(names)}, or '' for none")
    return _NORMS[norm](out_channels)
