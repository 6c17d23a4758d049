"""Process-wide set-up: seeds, library switches, and a user's own environment module."""

import importlib
import importlib.util
import logging
import os
import random
import sys
import warnings
from datetime import datetime
from types import ModuleType

import numpy as np
import torch

__all__ = ["TORCH_VERSION", "seed_all_rng", "setup_custom_environment", "setup_environment"]

TORCH_VERSION = tuple(int(x) for x in torch.__version__.split("+")[0].split(".")[:2])
"""(major, minor) of torch."""

DOC_BUILDING = os.getenv("_DOC_BUILDING", "").lower() in ("1", "true", "yes")

_ENV_SETUP_DONE = False


def seed_all_rng(seed: int | None = None) -> None:
    """Seed Python's, numpy's and torch's generators.

    Args:
        seed: the seed; None makes one of the time and the process id, and logs it.
    """
    if seed is None:
        fresh = f"{os.getpid()} {datetime.now().isoformat()}".encode() + os.urandom(8)
        seed = int.from_bytes(fresh[-4:], "big") ^ (hash(fresh) & 0x7FFFFFFF)
        seed &= 0x7FFFFFFF
        logging.getLogger(__name__).info("Using a generated random seed %d", seed)
    np.random.seed(seed)  # noqa: NPY002 (public projects draw from numpy's global state)
    torch.manual_seed(seed)
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)


def _import_file(module_name: str, file_path: str, make_importable: bool = False) -> ModuleType:
    """Import a Python file under a given name; `make_importable` lets later `import module_name` find it."""
    spec = importlib.util.spec_from_file_location(module_name, file_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file_path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if make_importable:
        sys.modules[module_name] = module
    return module


def _configure_libraries() -> None:
    # OpenCL contexts do not survive the fork of loader workers.
    os.environ.setdefault("OPENCV_OPENCL_RUNTIME", "disabled")
    # fvcore compiles some of its losses with torch.jit when it is imported; a user can do nothing about that.
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning)


def setup_environment() -> None:
    """Configure libraries once per process and run the user's `$DETECTRON2_ENV_MODULE`, a module or a .py file."""
    global _ENV_SETUP_DONE
    if _ENV_SETUP_DONE:
        return
    _ENV_SETUP_DONE = True
    _configure_libraries()
    custom_module = os.environ.get("DETECTRON2_ENV_MODULE")
    if custom_module:
        setup_custom_environment(custom_module)


def setup_custom_environment(custom_module: str) -> None:
    """Import a module, given by dotted name or as a .py file, and call its `setup_environment()`.

    Raises:
        AttributeError: the module has no such function.
    """
    if custom_module.endswith(".py"):
        module = _import_file("detectron2.utils.env.custom_module", custom_module)
    else:
        module = importlib.import_module(custom_module)
    setup = getattr(module, "setup_environment", None)
    if not callable(setup):
        raise AttributeError(
            f"DETECTRON2_ENV_MODULE {custom_module!r} ({module.__file__}) must define a function setup_environment()"
        )
    setup()


def fixup_module_metadata(module_name: str, namespace: dict, keys: list[str] | None = None) -> None:
    """Make re-exported functions and classes name `module_name` as their home, so that documentation links there.

    Args:
        module_name: the package that re-exports.
        namespace: its `globals()`.
        keys: which names; all public ones by default.
    """
    if not DOC_BUILDING:
        return
    for key in [k for k in namespace if not k.startswith("_")] if keys is None else keys:
        obj = namespace[key]
        if getattr(obj, "__module__", None) and callable(obj):
            obj.__module__ = module_name
            for member in vars(obj).values() if isinstance(obj, type) else ():
                if callable(member) and not isinstance(member, type):
                    member.__module__ = module_name
