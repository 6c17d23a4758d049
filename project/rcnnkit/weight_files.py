"""Weight files read without running what is in them: torch's, safetensors, and pickles of numpy arrays.

`.pth` goes through `torch.load(weights_only=True)`; a `.pkl` through an unpickler that knows numpy arrays and plain
containers only, on either engine.
"""

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from rcnnkit.errors import UserError

# The globals that numpy's own pickles name, and nothing that could call out.
HARMLESS_GLOBALS = frozenset(
    {
        *((module, name) for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
          for name in ("ndarray", "dtype", "_reconstruct", "scalar")),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.numeric", "_frombuffer"),
        ("collections", "OrderedDict"),
        ("_codecs", "encode"),
    }
)  # fmt: skip
# Under which entry training programs keep the weights beside their other state; an average of weights comes first.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


class _WeightsUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain containers; any other name is refused before it is looked up."""

    def __init__(self, file: BinaryIO, path: Path):
        super().__init__(file, encoding="latin1")  # Detectron's files were pickled by Python 2
        self._path = path

    def find_class(self, module: str, name: str):
        if (module, name) not in HARMLESS_GLOBALS:
            raise UserError(f"{self._path}: holds code ({module}.{name}) and is refused; nothing of it was run")
        return super().find_class(module, name)

    def persistent_load(self, pid):
        raise UserError(f"{self._path}: refers to objects outside the file and is refused")


def check_pickle(path: Path) -> Any:
    """The content of a pickle; refused if it names anything but `HARMLESS_GLOBALS`."""
    try:
        with open(path, "rb") as file:
            return _WeightsUnpickler(file, path).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble over
        raise UserError(f"{path}: truncated or not a pickle ({error}); copy the file again") from error


def unreadable(path: Path, error: Exception) -> str:
    """What to say of a weight file that torch or safetensors could not read."""
    for raised in (error, error.__cause__):
        # torch names the global that it refuses; the rest of its text advises to load the file in a way that runs code
        named = re.search(r"\bGLOBAL ([\w.]+)", str(raised)) if isinstance(raised, pickle.UnpicklingError) else None
        if named:
            return f"{path}: holds code ({named.group(1)}) and is refused; nothing of it was run"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, pickle.UnpicklingError):
        reason = "its pickle cannot be read"
    return f"{path}: is truncated or is not a checkpoint ({reason}); copy the file again ({path.stat().st_size} bytes)"


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file by name, on the CPU, whatever state of a training lies around them.

    Args:
        path: `.pkl`, `.safetensors`, or any other name for a file of `torch.save`.

    Raises:
        UserError: no such file, empty, damaged, holding code, or without tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; copy it again")
    if path.suffix == ".pkl":
        content = check_pickle(path)
    else:
        try:
            content = _read(path)
        except Exception as error:  # zip, pickle, torch and safetensors each raise their own kinds
            raise UserError(unreadable(path, error)) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    entries = content.items() if isinstance(content, dict) else ()
    tensors = {
        name.removeprefix("module."): torch.as_tensor(value)
        for name, value in entries
        if isinstance(name, str) and isinstance(value, torch.Tensor | np.ndarray)
    }
    if not tensors:
        raise UserError(f"{path}: holds no named tensors; give a file of weights")
    return tensors


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # slow to import, seldom needed

        return load_file(path, device="cpu")
    return torch.load(path, map_location="cpu", weights_only=True)
