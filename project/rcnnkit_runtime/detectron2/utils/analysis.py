"""How large a model is and how much it computes, by fvcore; and which parameters a loss does not reach."""

from collections import defaultdict
from typing import Any

import fvcore
import torch
from fvcore.nn import activation_count, flop_count, parameter_count, parameter_count_table
from torch import nn

from detectron2.export import TracingAdapter
from detectron2.export.torchscript_patch import freeze_training_mode

__all__ = [
    "FlopCountAnalysis",
    "activation_count_operators",
    "find_unused_parameters",
    "flop_count_operators",
    "parameter_count",
    "parameter_count_table",
]

FLOPS_MODE = "flops"
ACTIVATIONS_MODE = "activations"

# Cheap beside convolutions and products of matrices; fvcore would warn of each that it does not count.
_IGNORED_OPS = {
    "aten::add",
    "aten::add_",
    "aten::argmax",
    "aten::argsort",
    "aten::batch_norm",
    "aten::constant_pad_nd",
    "aten::div",
    "aten::div_",
    "aten::exp",
    "aten::log2",
    "aten::max_pool2d",
    "aten::meshgrid",
    "aten::mul",
    "aten::mul_",
    "aten::neg",
    "aten::nonzero_numpy",
    "aten::reciprocal",
    "aten::repeat_interleave",
    "aten::rsub",
    "aten::sigmoid",
    "aten::sigmoid_",
    "aten::softmax",
    "aten::sort",
    "aten::sqrt",
    "aten::sub",
    "torchvision::nms",
}


class FlopCountAnalysis(fvcore.nn.FlopCountAnalysis):
    """fvcore's analysis for models with Detectron2's inputs; see there for ``total``, ``by_module``, ``by_operator``.

    Args:
        model: in evaluation mode, for what inference costs.
        inputs: of the model, such as ``[{"image": tensor}]``.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        adapter = TracingAdapter(model, inputs, allow_non_tensor=True)
        super().__init__(adapter, adapter.flattened_inputs)
        self.set_op_handle(**dict.fromkeys(_IGNORED_OPS))


def flop_count_operators(model: nn.Module, inputs: list[Any]) -> defaultdict[str, float]:
    """Inference's billions of multiply-adds, by operator.

    Args:
        model: is put into evaluation mode meanwhile.
        inputs: of the model, such as ``[{"image": tensor}]``.
    """
    return _wrapper_count_operators(model=model, inputs=inputs, mode=FLOPS_MODE)


def activation_count_operators(model: nn.Module, inputs: list[Any], **kwargs: Any) -> defaultdict[str, float]:
    """Inference's millions of values that convolutions and products of matrices put out, by operator.

    Args:
        model: is put into evaluation mode meanwhile.
        inputs: of the model, such as ``[{"image": tensor}]``.
        kwargs: of fvcore's ``activation_count``.
    """
    return _wrapper_count_operators(model=model, inputs=inputs, mode=ACTIVATIONS_MODE, **kwargs)


def _wrapper_count_operators(model: nn.Module, inputs: list[Any], mode: str, **kwargs: Any) -> defaultdict[str, float]:
    count = {FLOPS_MODE: flop_count, ACTIVATIONS_MODE: activation_count}[mode]
    ignored: dict[str, Any] = {name: lambda *_: defaultdict(float) for name in _IGNORED_OPS}
    supported = {**ignored, **kwargs.pop("supported_ops", {})}
    with freeze_training_mode(model):
        model.eval()
        adapter = TracingAdapter(model, inputs, allow_non_tensor=True)
        counts, _ = count(adapter, adapter.flattened_inputs, supported, **kwargs)
    return defaultdict(float, {name: value for name, value in counts.items() if name not in _IGNORED_OPS})


def find_unused_parameters(model: nn.Module, inputs: Any) -> list[str]:
    """Names of the trainable parameters that get no gradient from a training step.

    Args:
        model: in training mode, returning a loss or a dict of losses. Its gradients are dropped.
        inputs: of the model.
    """
    assert model.training, "find_unused_parameters() needs the model in training mode"
    for parameter in model.parameters():
        parameter.grad = None
    losses = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    total = sum(losses.values()) if isinstance(losses, dict) else losses
    assert isinstance(total, torch.Tensor), f"the model has to return losses, got {type(losses).__name__}"
    total.backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    for parameter in model.parameters():
        parameter.grad = None
    return unused
