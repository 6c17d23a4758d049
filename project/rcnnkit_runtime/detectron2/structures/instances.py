"""What is known about the objects of one image: named fields of equal length."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Instances:
    """Fields of equal length, one entry per object, set and read as attributes.

    A field is anything with a length that indexing selects from: a tensor, ``Boxes``, masks, keypoints, a list.

    Args:
        image_size: (height, width) in pixels of the image that coordinates refer to.
        kwargs: fields.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        elif name == "image_size":
            raise AttributeError("image_size of Instances cannot change; make a new object")
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling ask for attributes before _fields exists.
        fields = self.__dict__.get("_fields")
        if fields is None or name not in fields:
            raise AttributeError(f"Cannot find field '{name}' in the given Instances!")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Set a field.

        Raises:
            AssertionError: its length differs from that of the other fields.
        """
        length = len(value)
        if len(self._fields):
            assert len(self) == length, f"Adding a field of length {length} to a Instances of length {len(self)}"
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Remove a field; KeyError if there is none."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """Return a field; KeyError if there is none."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """The fields by name; changing the dict changes the object."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """A copy whose fields went through their ``to``, where they have one."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    def __getitem__(self, item: int | slice | Tensor | Any) -> Instances:
        """Select objects by integer (gives one), slice, indices or bool mask.

        Raises:
            IndexError: an integer beyond the length.
        """
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            length = len(self)
            if not -length <= item < length:
                raise IndexError("Instances index out of range!")
            position = int(item) % length
            item = slice(position, position + 1)
        selected = Instances(self._image_size)
        for name, value in self._fields.items():
            selected.set(name, _select(value, item))
        return selected

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Empty Instances does not support __len__!")

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError("`Instances` object is not iterable!")

    @staticmethod
    def cat(instance_lists: Sequence[Instances]) -> Instances:
        """The objects of several Instances of one image size, with the fields of the first.

        Raises:
            KeyError: another one lacks a field of the first.
            ValueError: a field is of a type that cannot be concatenated.
        """
        assert len(instance_lists) > 0, "Instances.cat needs at least one Instances"
        assert all(isinstance(i, Instances) for i in instance_lists), "Instances.cat takes Instances only"
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        sizes = {tuple(int(side) for side in i.image_size) for i in instance_lists}
        assert len(sizes) == 1, f"Instances of different image sizes cannot be joined: {sorted(sizes)}"
        joined = Instances(first.image_size)
        for name in first.get_fields():
            joined.set(name, _concatenate([i.get(name) for i in instance_lists]))
        return joined

    def __str__(self) -> str:
        count = len(self) if self._fields else 0
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        height, width = self._image_size
        return f"Instances(num_instances={count}, image_height={height}, image_width={width}, fields=[{fields}])"

    __repr__ = __str__


def _select(value: Any, item: Any) -> Any:
    if isinstance(value, list) and not isinstance(item, slice):
        return [value[i] for i in torch.arange(len(value))[torch.as_tensor(item).cpu()].tolist()]
    return value[item]


def _concatenate(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values, dim=0)
    if isinstance(first, list):
        return list(itertools.chain(*values))
    if hasattr(type(first), "cat"):
        return type(first).cat(values)
    raise ValueError(f"Unsupported type {type(first)} for concatenation")
