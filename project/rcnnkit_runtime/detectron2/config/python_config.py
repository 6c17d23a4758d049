"""Running a Python config file. It may import from others beside it by relative imports, outside of any package."""

import ast
import builtins
import os
import types
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from detectron2.utils.file_io import PathManager

__all__ = ["run_config_file"]


def as_config(value: Any) -> Any:
    """A dict becomes a DictConfig that may hold any object; other values stay."""
    return DictConfig(value, flags={"allow_objects": True}) if isinstance(value, dict) else value


def run_config_file(filename: str, importers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Execute a Python config file and return its globals.

    Each load and each import runs the file afresh, so that no config changes another's.

    Args:
        filename: path of the file.
        importers: files that are being executed, outermost first.

    Raises:
        ImportError: a relative import names something else than a config file, or goes round in a circle.
        SyntaxError: the file is not Python.
    """
    with PathManager.open(filename) as file:
        text = file.read()
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise SyntaxError(f"Config file {filename} has syntax error! {error}") from error
    chain = (*importers, os.path.abspath(filename))

    def import_for_config(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> types.ModuleType:
        if level == 0:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        return _import_config(filename, name, level, chain)

    # `import` statements ask the builtins of the code that they stand in: only this file's see our function.
    module = {
        "__file__": filename,
        "__name__": "detectron2_config",
        "__builtins__": {**vars(builtins), "__import__": import_for_config},
    }
    exec(compile(text, filename, "exec"), module)
    return module


def _import_config(importer: str, name: str, level: int, chain: tuple[str, ...]) -> types.ModuleType:
    folder = os.path.dirname(importer)
    for _ in range(level - 1):
        folder = os.path.join(folder, os.pardir)
    stem = os.path.normpath(os.path.join(folder, *name.split(".")))
    path = f"{stem}.py"
    if not name or (os.path.isdir(stem) and not os.path.isfile(path)):
        raise ImportError(
            f"{importer} imports from the folder {stem}. Within a config file a relative import can only import from "
            "another config file: from .file import name."
        )
    if not PathManager.exists(path):
        raise ImportError(f"Cannot import name {name} from {importer}: {path} does not exist.")
    if os.path.abspath(path) in chain:
        circle = " -> ".join([*chain[chain.index(os.path.abspath(path)) :], os.path.abspath(path)])
        raise ImportError(f"Config files import each other in a circle: {circle}")
    module = types.ModuleType("detectron2_config")
    values = run_config_file(path, chain)
    vars(module).update({key: as_config(value) for key, value in values.items() if key != "__builtins__"})
    return module
