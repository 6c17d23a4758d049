"""Augmentations: policies that look at an input and return a deterministic Transform.

A policy draws from numpy's global generator, so that seeding it (each loader worker does) fixes the result.
"""

from __future__ import annotations

import inspect
import pprint
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]


def _check_img_dtype(img: Any) -> None:
    """Refuse what is not an (H, W[, C]) image of uint8 (0–255) or float (0–1 or 0–255)."""
    if not isinstance(img, np.ndarray):
        raise AssertionError(f"[Augmentation] Needs a numpy array, but got a {type(img)}!")
    is_uint8 = img.dtype == np.uint8
    if not (is_uint8 or np.issubdtype(img.dtype, np.floating)):
        raise AssertionError(f"[Augmentation] Got image of type {img.dtype}, use uint8 or floating points instead!")
    if img.ndim not in (2, 3):
        raise AssertionError(f"[Augmentation] Needs an image of 2 or 3 axes, got shape {img.shape}")


def _argument_names(aug: Augmentation) -> tuple[str, ...]:
    """Attributes of AugInput that `aug.get_transform` takes, read from its signature."""
    parameters = list(inspect.signature(aug.get_transform).parameters.values())
    names = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{type(aug).__name__}.get_transform takes *args or **kwargs: set `input_args` to what it needs"
            )
        names.append(parameter.name)
    return tuple(names)


def _get_aug_input_args(aug: Augmentation, aug_input: Any) -> list[Any]:
    """The values that `aug.get_transform` takes, from the attributes of `aug_input`."""
    if aug.input_args is None:
        names = _argument_names(aug)
        # the usual way to write an augmentation of the image alone, whatever its parameter is called
        aug.input_args = ("image",) if len(names) == 1 else names
    values = []
    for name in aug.input_args:
        try:
            values.append(getattr(aug_input, name))
        except AttributeError as error:
            raise AttributeError(
                f"{type(aug).__name__}.get_transform needs input attribute '{name}', "
                f"but it is not an attribute of {type(aug_input).__name__}!"
            ) from error
    return values


class Augmentation:
    """Base of the policies. A subclass implements `get_transform(self, image)`.

    The parameters of `get_transform` name the attributes of AugInput that it needs (`image`, `boxes`, `sem_seg`, or any
    that a caller adds); `input_args` overrides that. Calling the augmentation transforms the input in place.
    """

    input_args: tuple[str, ...] | None = None

    if TYPE_CHECKING:  # the attributes that _init sets

        def __getattr__(self, name: str) -> Any: ...

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Store the constructor's arguments (`locals()`) as attributes."""
        for key, value in (params or {}).items():
            if key != "self" and not key.startswith("_"):
                setattr(self, key, value)

    def get_transform(self, *args: Any) -> Transform:
        """Look at the input and choose the transform; must not change the input."""
        raise NotImplementedError

    def __call__(self, aug_input: Any) -> Transform:
        """Choose a transform for `aug_input`, apply it there, return it."""
        chosen = self.get_transform(*_get_aug_input_args(self, aug_input))
        if not isinstance(chosen, (Transform, TransformList)):
            raise AssertionError(
                f"{type(self).__name__}.get_transform must return an instance of Transform! Got {type(chosen)} instead."
            )
        aug_input.transform(chosen)
        return chosen

    def _rand_range(self, low: float = 1.0, high: float | None = None, size: Any = None) -> Any:
        """A uniform draw from [low, high), or from [0, low) without `high`."""
        if high is None:
            low, high = 0, low
        return np.random.uniform(low, high, [] if size is None else size)  # noqa: NPY002 — the seeded generator of the worker

    def __repr__(self) -> str:
        """Name and the arguments that differ from their defaults."""
        shown = []
        for name, parameter in inspect.signature(self.__init__).parameters.items():  # type: ignore[misc]
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(self, name):
                return super().__repr__()
            value = getattr(self, name)
            if value is parameter.default:
                continue
            text = pprint.pformat(value).split("\n")
            shown.append(f"{name}={text[0] if len(text) == 1 else text[0] + '...'}")
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


class _TransformToAug(Augmentation):
    """A policy that always chooses the one transform."""

    input_args = ()

    def __init__(self, tfm: Transform):
        self.tfm = tfm

    def get_transform(self, *args: Any) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)

    __str__ = __repr__


def _transform_to_aug(tfm_or_aug: Transform | Augmentation) -> Augmentation:
    """Make a policy of a transform; a policy stays what it is."""
    if isinstance(tfm_or_aug, Augmentation):
        return tfm_or_aug
    if isinstance(tfm_or_aug, (Transform, TransformList)):
        return _TransformToAug(tfm_or_aug)
    raise AssertionError(f"Needs an Augmentation or a Transform, got {type(tfm_or_aug)}")


class AugmentationList(Augmentation):
    """Apply policies in order, each to the result of those before it; returns the TransformList of what was applied."""

    def __init__(self, augs: Sequence[Augmentation | Transform]):
        super().__init__()
        self.augs = [_transform_to_aug(aug) for aug in augs]

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(str(aug) for aug in self.augs)}]"

    __str__ = __repr__


class AugInput:
    """What augmentations read and transforms change.

    Args:
        image: (H, W[, C]) uint8 in 0–255, or float in 0–1 or 0–255. The meaning of C is the caller's.
        boxes: (N, 4) float, absolute XYXY pixels, or None.
        sem_seg: (H, W) integer labels, or None.
    """

    def __init__(self, image: np.ndarray, *, boxes: np.ndarray | None = None, sem_seg: np.ndarray | None = None):
        _check_img_dtype(image)
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        """Apply `tfm` to all that is there, in place."""
        self.image = tfm.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations: list[Augmentation | Transform]) -> TransformList:
        """`AugmentationList(augmentations)(self)`."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(augmentations: Sequence[Augmentation | Transform], inputs: Any) -> tuple[Any, TransformList]:
    """Apply policies to an image (array) or to an AugInput; returns (the result of the same kind, the transforms)."""
    if isinstance(inputs, np.ndarray):
        image_only = AugInput(inputs)
        applied = AugmentationList(augmentations)(image_only)
        return image_only.image, applied
    return inputs, AugmentationList(augmentations)(inputs)


# names of earlier releases that projects still import
TransformGen = Augmentation
StandardAugInput = AugInput
apply_transform_gens = apply_augmentations
