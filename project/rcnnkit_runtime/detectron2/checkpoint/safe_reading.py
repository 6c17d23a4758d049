"""Weight files read without running what is in them: .pth through torch's weights-only reader, .safetensors, and .pkl
through an unpickler that knows numpy arrays and plain containers only."""

import argparse
import codecs
import collections
import os
import pickle
import re
from typing import Any

import numpy as np
import torch


class CheckpointError(RuntimeError):
    """A weight file that cannot be read or does not fit; the message is one line and names the file."""


def read_weight_file(path: str) -> Any:
    """Reads a weight file by its suffix: .safetensors, .pkl, anything else as torch's format.

    Args:
        path: a local file name.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: empty, truncated, of another format, or asking for code to be run.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Checkpoint {path} not found!")
    if os.path.getsize(path) == 0:
        raise CheckpointError(f"Checkpoint {path} is empty (0 bytes): copy or download it again.")
    if path.endswith(".safetensors"):
        return _read_safetensors(path)
    if path.endswith(".pkl"):
        return read_pickle(path)
    return read_torch(path)


def read_torch(path: str) -> Any:
    """Reads a file of `torch.save` onto the CPU: tensors, numpy arrays and plain containers.

    Raises:
        CheckpointError: see `read_weight_file`.
    """
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"\bGLOBAL ([\w.]+)", str(error))
        if refused is None:  # torch's text is left out: it advises to load the file in a way that runs code
            raise CheckpointError(f"Checkpoint {path} is damaged or no torch file; copy it again") from error
        raise _refusal(path, refused.group(1)) from error
    except Exception as error:
        raise CheckpointError(
            f"Checkpoint {path} is truncated, damaged or no torch file: {_first_line(error)}"
        ) from error


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(f"Checkpoint {path} needs the package safetensors: pip install safetensors") from error
    try:
        return load_file(path, device="cpu")
    except Exception as error:
        raise CheckpointError(
            f"Checkpoint {path} is truncated, damaged or no safetensors file: {_first_line(error)}"
        ) from error


def read_pickle(path: str) -> Any:
    """Reads a pickle of numpy arrays and plain containers, as Detectron, Detectron2 and its model zoo write them.

    Raises:
        CheckpointError: see `read_weight_file`; a refused pickle is stopped before the refused name is imported.
    """
    try:
        with open(path, "rb") as file:
            return _ArrayUnpickler(file, path).load()
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"Checkpoint {path} is truncated, damaged or no pickle: {_first_line(error)}") from error


def _decode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stands for `_codecs.encode`, by which Python 2 pickles carry the bytes of arrays."""
    if codecs.lookup(encoding).name not in ("iso8859-1", "utf-8", "ascii"):
        raise CheckpointError(f"unexpected text encoding {encoding!r}")
    return text.encode(encoding)


_NUMPY_NAMES = {
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.numeric": ("_frombuffer",),
}
_PLAIN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _decode_latin1,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, slice, str, tuple)
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    """Resolves the names that arrays and plain containers need, and no others."""

    def __init__(self, file: Any, path: str) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if name in _NUMPY_NAMES.get(module, ()):
            return _numpy_attribute(module, name)
        raise _refusal(self._path, f"{module}.{name}")


def _numpy_attribute(module: str, name: str) -> Any:
    """An allowed numpy name under the module path of the numpy that is installed (`core` became `_core` in 2.0)."""
    home: Any = np
    for part in module.split(".")[1:]:
        if part in ("core", "_core"):
            part = "_core" if hasattr(np, "_core") else "core"
        home = getattr(home, part)
    return getattr(home, name)


def _numpy_globals() -> list[Any]:
    """What torch's weights-only reader has to know to read numpy arrays and scalars, under old and new module paths."""
    # a Namespace is the command line that torchvision's training scripts save beside the weights
    allowed: list[Any] = [np.ndarray, np.dtype, (_decode_latin1, "_codecs.encode"), argparse.Namespace]
    for module, names in _NUMPY_NAMES.items():
        if module != "numpy":
            allowed += [(_numpy_attribute(module, name), f"{module}.{name}") for name in names]
    if hasattr(np, "dtypes"):
        allowed += [
            kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and kind is not np.dtypes.ObjectDType
        ]
    return allowed


def _refusal(path: str, name: str) -> CheckpointError:
    return CheckpointError(
        f"Checkpoint {path} is refused, nothing of it was run: it asks for {name}, "
        "but only tensors, numpy arrays and plain containers are read."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
