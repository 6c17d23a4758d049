"""The default config `_C`: every key with its default, read from the files in `defaults/`, one per section.

The files are YAML with one addition: `!tuple [...]` is a tuple, for keys whose default is one.
"""

from pathlib import Path
from typing import Any

import yaml

from detectron2.config.config import CfgNode as CN

__all__: list[str] = []

_FOLDER = Path(__file__).resolve().parent / "defaults"
# The order of the sections in the config; run.yaml begins because VERSION does.
_FILES = (
    "run.yaml",
    "model.yaml",
    "backbone.yaml",
    "rpn.yaml",
    "roi_heads.yaml",
    "dense.yaml",
    "input.yaml",
    "datasets.yaml",
    "solver.yaml",
    "test.yaml",
)


class _DefaultsLoader(yaml.SafeLoader):
    """Safe YAML plus `!tuple`."""


def _construct_tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple:
    assert isinstance(node, yaml.SequenceNode), f"!tuple needs a sequence: {node.start_mark}"
    return tuple(loader.construct_sequence(node, deep=True))


_DefaultsLoader.add_constructor("!tuple", _construct_tuple)


def _add(section: dict[str, Any], into: dict[str, Any], filename: str) -> None:
    for key, value in section.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _add(value, into[key], filename)
        elif key in into:
            raise ValueError(f"{filename} defines config key {key} a second time")
        else:
            into[key] = value


def _load_defaults() -> CN:
    values: dict[str, Any] = {}
    for filename in _FILES:
        with open(_FOLDER / filename, encoding="utf-8") as file:
            _add(yaml.load(file, Loader=_DefaultsLoader), values, filename)
    return CN(values)


_C = _load_defaults()
