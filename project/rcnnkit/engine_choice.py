"""The seam between the plug-in and its engine: which package answers to `import detectron2`.

`RCNNKIT_ENGINE` (environment):

| value        | engine                                                                                  |
|--------------|-----------------------------------------------------------------------------------------|
| `auto`       | stock Detectron2 where it is installed, the built-in engine otherwise (the default)      |
| `detectron2` | stock Detectron2; an error where it is not installed                                     |
| `builtin`    | the built-in engine, also where stock Detectron2 is installed                            |

A stock Detectron2 that is installed but cannot be imported is an error, never a silent switch to the other engine.
"""

import importlib
import importlib.util
import logging
import os
import sys
from pathlib import Path

import rcnnkit_runtime

ENVIRONMENT_VARIABLE = "RCNNKIT_ENGINE"
CHOICES = ("auto", "detectron2", "builtin")
MEND_TORCHVISION = "install the pair that belongs together, for example `pip install torch==2.14.1 torchvision==0.29.1`"


class EngineError(ImportError):
    """The engine that was asked for cannot be had; the message says why and what to do."""


def activate_engine(choice: str | None = None) -> str:
    """Choose the engine once; later calls return the same answer.

    Args:
        choice: one of `CHOICES`; by default the environment variable `RCNNKIT_ENGINE`, or `auto`.

    Returns:
        `"detectron2"` or `"builtin"`.

    Raises:
        EngineError: an unknown choice, stock Detectron2 asked for but absent or broken, another engine imported
            earlier in this process, or a torchvision that does not belong to the installed torch.
    """
    choice = choice or os.environ.get(ENVIRONMENT_VARIABLE, "").strip().lower() or "auto"
    if choice not in CHOICES:
        raise EngineError(f"{ENVIRONMENT_VARIABLE}={choice}: unknown engine; choose one of {', '.join(CHOICES)}")
    loaded = _loaded_engine()
    if loaded is not None:
        if choice not in ("auto", loaded):
            raise EngineError(
                f"{ENVIRONMENT_VARIABLE}={choice}, but this process has imported the {loaded} engine already; "
                "set the variable before anything imports detectron2"
            )
        return loaded
    engine = _find_engine(choice)
    _import_torchvision()
    if engine == "builtin":
        rcnnkit_runtime.activate(first=True)
        importlib.import_module("detectron2")
    else:
        _import_stock()
    logging.getLogger("rcnnkit").info(engine_line())
    return engine


def engine_line() -> str:
    """One line that says which engine is active, its version and where it lives."""
    engine = _loaded_engine() or activate_engine()
    package = importlib.import_module("detectron2")
    return f"engine: {engine} (detectron2 API {package.__version__}, {Path(str(package.__file__)).parent})"


def _find_engine(choice: str) -> str:
    if choice == "builtin":
        return "builtin"
    if _stock_is_installed():
        return "detectron2"
    if choice == "detectron2":
        raise EngineError(
            f"{ENVIRONMENT_VARIABLE}=detectron2, but Detectron2 is not installed for {sys.executable}; install it from "
            f"https://github.com/facebookresearch/detectron2, or set {ENVIRONMENT_VARIABLE}=builtin"
        )
    return "builtin"


def _loaded_engine() -> str | None:
    package = sys.modules.get("detectron2")
    if package is None:
        return None
    return "builtin" if _is_builtin(getattr(package, "__file__", None)) else "detectron2"


def _stock_is_installed() -> bool:
    spec = importlib.util.find_spec("detectron2")
    # A folder without __init__.py (an unpacked repository in the working directory) is no installation.
    return spec is not None and spec.origin is not None and not _is_builtin(spec.origin)


def _is_builtin(origin: str | None) -> bool:
    return origin is not None and rcnnkit_runtime.ENGINE_ROOT in Path(origin).resolve().parents


def _import_torchvision() -> None:
    """Both engines need its operators; built for another torch it fails at import, in many ways."""
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(f"torchvision cannot be imported ({reason}); {MEND_TORCHVISION}") from error


def _import_stock() -> None:
    try:
        importlib.import_module("detectron2.engine")
        importlib.import_module("detectron2.model_zoo")
    except Exception as error:
        where = importlib.util.find_spec("detectron2")
        for name in [name for name in sys.modules if name == "detectron2" or name.startswith("detectron2.")]:
            del sys.modules[name]
        hint = " (it needs pkg_resources: install 'setuptools<81')" if "pkg_resources" in str(error) else ""
        raise EngineError(
            f"Detectron2 at {where.origin if where else 'an unknown place'} is installed but cannot be imported: "
            f"{type(error).__name__}: {error}{hint}; mend it, or set {ENVIRONMENT_VARIABLE}=builtin"
        ) from error
