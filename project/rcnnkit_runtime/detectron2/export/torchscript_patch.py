"""Changes that hold while a model is being exported."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn

__all__ = ["freeze_training_mode", "patch_builtin_len"]

_PACKAGES = ("detectron2.layers.", "detectron2.structures.", "detectron2.modeling.")


def _traced_len(obj: Any) -> Any:
    return obj.__len__()


@contextmanager
def patch_builtin_len(modules: Sequence[str] = ()) -> Iterator[None]:
    """Let ``len()`` in the engine's modules return what ``__len__`` returns: in a trace a tensor, not a number.

    Python's own ``len()`` makes it a number, which a trace would keep for all inputs.

    Args:
        modules: names of further modules.
    """
    patched: list[ModuleType] = [
        module
        for name, module in list(sys.modules.items())
        if (name.startswith(_PACKAGES) or name in modules) and isinstance(module, ModuleType)
    ]
    patched = [module for module in patched if "len" not in vars(module)]
    for module in patched:
        vars(module)["len"] = _traced_len
    try:
        yield
    finally:
        for module in patched:
            vars(module).pop("len", None)


@contextmanager
def freeze_training_mode(model: nn.Module) -> Iterator[None]:
    """Put back each module's ``training`` afterwards, whatever the export does to it."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
