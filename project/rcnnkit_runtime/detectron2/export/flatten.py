"""Nested inputs and outputs as flat tuples of tensors, which is what `torch.jit.trace` takes, and back.

`flatten_to_tuple` returns the leaves and a schema; the schema, called with the leaves, rebuilds the nested object.
Handled: lists, tuples, dicts with string keys (in the order of the keys), `Instances`, `Boxes`, `ROIMasks`; anything
else is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.structures import Boxes, Instances, ROIMasks
from detectron2.utils.registry import _convert_target_to_string, locate

__all__ = [
    "DictSchema",
    "IdentitySchema",
    "InstancesSchema",
    "ListSchema",
    "Schema",
    "TensorWrapSchema",
    "TracingAdapter",
    "TupleSchema",
    "flatten_to_tuple",
]

_WRAPPERS = (Boxes, ROIMasks)


@dataclass
class Schema:
    """How a flat tuple becomes an object again."""

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple[Any, ...], Schema]:
        """The object's leaves, and the schema that rebuilds it."""
        raise NotImplementedError

    def __call__(self, values: Sequence[Any]) -> Any:
        """Rebuild the object from leaves."""
        raise NotImplementedError

    @staticmethod
    def _concat(values: Iterable[tuple[Any, ...]]) -> tuple[tuple[Any, ...], list[int]]:
        parts = list(values)
        return tuple(leaf for part in parts for leaf in part), [len(part) for part in parts]

    @staticmethod
    def _split(values: Sequence[Any], sizes: list[int]) -> list[Sequence[Any]]:
        assert len(values) == sum(sizes), f"Values has length {len(values)} but expect length {sum(sizes)}."
        parts, start = [], 0
        for size in sizes:
            parts.append(values[start : start + size])
            start += size
        return parts


@dataclass
class ListSchema(Schema):
    """A list.

    Args:
        schemas: of its items.
        sizes: the number of leaves of each item.
    """

    schemas: list[Schema]
    sizes: list[int]

    def __call__(self, values: Sequence[Any]) -> Any:
        return [schema(part) for schema, part in zip(self.schemas, self._split(values, self.sizes))]

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple[Any, ...], Schema]:
        flat = [flatten_to_tuple(item) for item in obj]
        leaves, sizes = cls._concat(leaves for leaves, _ in flat)
        return leaves, cls([schema for _, schema in flat], sizes)


@dataclass
class TupleSchema(ListSchema):
    """A tuple."""

    def __call__(self, values: Sequence[Any]) -> Any:
        return tuple(super().__call__(values))


@dataclass
class IdentitySchema(Schema):
    """A leaf."""

    def __call__(self, values: Sequence[Any]) -> Any:
        return values[0]

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple[Any, ...], Schema]:
        return (obj,), cls()


@dataclass
class DictSchema(ListSchema):
    """A dict with string keys.

    Args:
        keys: in the order of the leaves.
    """

    keys: list[str]

    def __call__(self, values: Sequence[Any]) -> Any:
        return dict(zip(self.keys, super().__call__(values)))

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple[Any, ...], Schema]:
        for key in obj:
            if not isinstance(key, str):
                raise KeyError(f"Only support flattening dictionaries if keys are str, got {key!r}.")
        keys = sorted(obj)
        leaves, items = ListSchema.flatten([obj[key] for key in keys])
        assert isinstance(items, ListSchema)
        return leaves, cls(items.schemas, items.sizes, keys)


@dataclass
class InstancesSchema(DictSchema):
    """`Instances`: its fields and, as the last leaf, the image's (height, width)."""

    def __call__(self, values: Sequence[Any]) -> Any:
        size, fields = values[-1], super().__call__(values[:-1])
        if isinstance(size, torch.Tensor) and not torch.jit.is_tracing():
            size = size.tolist()
        return Instances((size[0], size[1]), **fields)

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple[Any, ...], Schema]:
        leaves, schema = super().flatten(obj.get_fields())
        height, width = obj.image_size
        if isinstance(height, torch.Tensor):
            size = torch.stack([height, torch.as_tensor(width, device=height.device)])
        else:
            size = torch.as_tensor([height, width])
        return (*leaves, size), schema


@dataclass
class TensorWrapSchema(Schema):
    """A class around one tensor, such as `Boxes`.

    Args:
        class_name: its dotted name.
    """

    class_name: str

    def __call__(self, values: Sequence[Any]) -> Any:
        return locate(self.class_name)(values[0])

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple[Any, ...], Schema]:
        return (obj.tensor,), cls(_convert_target_to_string(type(obj)))


def flatten_to_tuple(obj: Any) -> tuple[tuple[Any, ...], Schema]:
    """Flatten a nested object.

    Returns:
        The leaves, and the schema that rebuilds the object from them.
    """
    if isinstance(obj, list):
        return ListSchema.flatten(obj)
    if isinstance(obj, tuple):
        return TupleSchema.flatten(obj)
    if isinstance(obj, dict):
        return DictSchema.flatten(obj)
    if isinstance(obj, Instances):
        return InstancesSchema.flatten(obj)
    if isinstance(obj, _WRAPPERS):
        return TensorWrapSchema.flatten(obj)
    return IdentitySchema.flatten(obj)


class TracingAdapter(nn.Module):
    """A model with rich inputs and outputs as one of flat tuples of tensors, to be traced.

    ``traced = torch.jit.trace(adapter, adapter.flattened_inputs)``; the traced module is called with tensors in that
    order, and ``adapter.outputs_schema(outputs)`` rebuilds the model's own output.

    Args:
        model: any model.
        inputs: arguments of the model: a tuple, or one argument.
        inference_func: how to call the model, ``f(model, *inputs)``; by default ``model(*inputs)``.
        allow_non_tensor: let inputs and outputs hold other things than tensors. Inputs that do cannot be changed, so
            the adapter then runs on ``flattened_inputs`` only; outputs that do are dropped.

    Attributes:
        flattened_inputs: the tensors among the inputs.
        inputs_schema: rebuilds the inputs; None where they hold other things than tensors.
        outputs_schema: rebuilds the outputs; set by each forward, None where they hold other things than tensors.

    Raises:
        ValueError: inputs or outputs hold something else than tensors without ``allow_non_tensor``.
    """

    flattened_inputs: tuple[torch.Tensor, ...] = None  # type: ignore[assignment]
    inputs_schema: Schema | None = None
    outputs_schema: Schema | None = None

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        inference_func: Callable[..., Any] | None = None,
        allow_non_tensor: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        self.model = model
        self.inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self.allow_non_tensor = allow_non_tensor
        self.inference_func = inference_func or _call
        leaves, schema = flatten_to_tuple(self.inputs)
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        if len(tensors) == len(leaves):
            self.inputs_schema = schema
        elif not allow_non_tensor:
            other = next(leaf for leaf in leaves if not isinstance(leaf, torch.Tensor))
            raise ValueError(f"Inputs for tracing must only contain tensors. Got a {type(other)} instead.")
        self.flattened_inputs = tensors

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad(), patch_builtin_len():
            outputs = self.inference_func(self.model, *self._inputs(args))
            leaves, schema = flatten_to_tuple(outputs)
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        if len(tensors) == len(leaves):
            self.outputs_schema = schema
            return tensors
        if not self.allow_non_tensor:
            raise ValueError("Model cannot be traced because some model outputs cannot flatten to tensors.")
        self.outputs_schema = None
        return tensors

    def _inputs(self, args: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        if self.inputs_schema is not None:
            return self.inputs_schema(args)
        if len(args) != len(self.flattened_inputs) or any(a is not b for a, b in zip(args, self.flattened_inputs)):
            raise ValueError(
                "TracingAdapter: the inputs hold other things than tensors, so that it cannot rebuild them from new "
                "tensors; call or trace it with its `flattened_inputs`."
            )
        return self.inputs

    def _create_wrapper(self, traced_model: Callable[..., Any]) -> Callable[..., Any]:
        """A function with the original model's inputs and outputs that runs a traced module."""

        def forward(*args: Any) -> Any:
            leaves, _ = flatten_to_tuple(args)
            outputs = traced_model(*leaves)
            assert self.outputs_schema is not None, "the adapter was not run yet, or its outputs are not all tensors"
            return self.outputs_schema(outputs if isinstance(outputs, tuple) else (outputs,))

        return forward


def _call(model: nn.Module, *inputs: Any) -> Any:
    return model(*inputs)
