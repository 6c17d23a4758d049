"""Lazy configs: Python or YAML files of calls that are described, changed and only then made.

``LazyCall(f)(a=1)`` is the config ``{"_target_": f, "a": 1}``; `detectron2.config.instantiate` makes the call. A Python
file is a program and runs when it is loaded: load only files that you trust. A YAML file never runs code.
"""

import dataclasses
import inspect
import json
import logging
import os
import types
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import cloudpickle
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.base import SCMode

from detectron2.config import lazy_yaml
from detectron2.config.lazy_overrides import override
from detectron2.config.python_config import as_config, run_config_file
from detectron2.config.targets import dotted_name, trust_target
from detectron2.utils.file_io import PathManager
from detectron2.utils.whole_file import write_whole

__all__ = ["LazyCall", "LazyConfig"]

_ALLOW_OBJECTS = {"allow_objects": True}


class LazyCall:
    """Describes a call: ``LazyCall(torch.nn.Conv2d)(in_channels=3, ...)`` returns a config instead of a layer.

    Args:
        target: a callable, or the dotted name of one.

    Raises:
        TypeError: neither.
    """

    def __init__(self, target: Any) -> None:
        if not (callable(target) or isinstance(target, (str, Mapping))):
            raise TypeError(f"target of LazyCall must be a callable or defines a callable! Got {target}")
        self._target = target

    def __call__(self, **kwargs: Any) -> DictConfig:
        target = self._target
        if dataclasses.is_dataclass(target):
            # omegaconf would take a dataclass as a schema of its values, so it goes in by its name
            target = dotted_name(target)
        if isinstance(target, str):
            trust_target(target)
        return DictConfig(content=dict(kwargs, _target_=target), flags=_ALLOW_OBJECTS)


class LazyConfig:
    """Loads, saves and changes lazy configs."""

    @staticmethod
    def load_rel(filename: str, keys: str | tuple[str, ...] | None = None) -> Any:
        """As `load`, the file name being relative to the file of the caller."""
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None
        assert caller is not None and caller.f_code.co_filename != "<string>", "load_rel Unable to find caller"
        return LazyConfig.load(os.path.join(os.path.dirname(caller.f_code.co_filename), filename), keys)

    @staticmethod
    def load(filename: str, keys: str | tuple[str, ...] | None = None) -> Any:
        """Load a config file. **A Python file is executed**; a YAML file is not, whatever it holds.

        Args:
            filename: a .py, .yaml or .yml file.
            keys: names to return: one gives its value, several a tuple. By default a DictConfig of all mappings in the
                file whose names do not start with an underscore.

        Raises:
            ValueError: another kind of file, or YAML that asks for an object that is not allowed.
            KeyError: no such name in the file.
        """
        filename = filename.replace("/./", "/")
        extension = os.path.splitext(filename)[1]
        if extension == ".py":
            values = run_config_file(filename)
        elif extension in (".yaml", ".yml"):
            with PathManager.open(filename) as file:
                values = OmegaConf.create(lazy_yaml.read(file, filename), flags=_ALLOW_OBJECTS)
        else:
            raise ValueError(f"Config file {filename} has to be a python or yaml file.")
        if keys is not None:
            if isinstance(keys, str):
                return as_config(values[keys])
            return tuple(as_config(values[key]) for key in keys)
        if extension != ".py":
            return values
        configs = {
            key: as_config(value)
            for key, value in values.items()
            if isinstance(value, (dict, DictConfig, ListConfig)) and not key.startswith("_")
        }
        return DictConfig(configs, flags=_ALLOW_OBJECTS)

    @staticmethod
    def save(cfg: Any, filename: str) -> None:
        """Write a config as YAML; beside it, as ``<filename>.pkl`` by cloudpickle, if YAML cannot hold its objects.

        Args:
            cfg: a config.
            filename: a .yaml file.
        """
        logger = logging.getLogger(__name__)
        values = OmegaConf.to_container(
            _with_named_targets(cfg), resolve=False, structured_config_mode=SCMode.INSTANTIATE
        )
        try:
            text = lazy_yaml.dump(values)
            lazy_yaml.read(text, filename, own=True)
        except (yaml.YAMLError, ValueError) as error:
            logger.warning(
                "The config contains objects that cannot serialize to a valid yaml. "
                f"{filename} is human-readable but cannot be loaded. ({error})"
            )
            text = lazy_yaml.dump(values, only_for_reading=True)
            _write(f"{filename}.pkl", cloudpickle.dumps(cfg))
            logger.warning(f"Config is saved using cloudpickle at {filename}.pkl.")
        _write(filename, text.encode())

    @staticmethod
    def apply_overrides(cfg: DictConfig, overrides: list[str]) -> DictConfig:
        """Change values by strings such as ``model.roi_heads.num_classes=3``.

        Args:
            cfg: changed in place.
            overrides: ``path.to.key=value``, values in Hydra's grammar; missing keys are made.

        Returns:
            The same config.

        Raises:
            ValueError: cannot be read.
            KeyError: the path goes through something that is no mapping.
        """
        for text in overrides:
            override(cfg, text)
        return cfg

    @staticmethod
    def to_py(cfg: Any, prefix: str = "cfg.") -> str:
        """A text like Python that shows a config with its calls; for reading, not for running.

        Args:
            cfg: a config.
            prefix: goes before each name.
        """
        values = OmegaConf.to_container(cfg, resolve=True, structured_config_mode=SCMode.INSTANTIATE)
        return "".join(f"{line}\n" for line in _assignments(values, prefix.rstrip("."), prefix))


def _write(filename: str, content: bytes) -> None:
    if "://" in filename:
        with PathManager.open(filename, "wb") as file:
            file.write(content)
    else:
        write_whole(filename, lambda file: file.write(content))


def _with_named_targets(cfg: Any) -> Any:
    """A copy of a config whose `_target_`s are names."""
    cfg = deepcopy(cfg)

    def visit(node: Any) -> None:
        if isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none():
            if "_target_" in node and callable(node._target_):
                node._target_ = dotted_name(node._target_)
            keys: Sequence[Any] = list(node.keys())
        elif isinstance(node, ListConfig) and not node._is_interpolation() and not node._is_none():
            keys = range(len(node))
        else:
            return
        for key in keys:
            visit(node._get_node(key))

    visit(cfg)
    return cfg


def _assignments(values: Any, name: str, prefix: str) -> list[str]:
    """Nested mappings one line per leaf; a call or a list on the line of its name."""
    if isinstance(values, dict) and "_target_" not in values and all(isinstance(key, str) for key in values):
        return [
            line for key in sorted(values) for line in _assignments(values[key], f"{prefix}{key}", f"{prefix}{key}.")
        ]
    return [f"{name} = {_expression(values)}"]


def _expression(value: Any) -> str:
    if isinstance(value, dict) and "_target_" in value:
        arguments = ", ".join(f"{key}={_expression(value[key])}" for key in sorted(value) if key != "_target_")
        return f"{dotted_name(value['_target_'])}({arguments})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_expression(key)}: {_expression(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_expression(item) for item in value) + "]"
    if isinstance(value, (type, types.FunctionType)):
        return dotted_name(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
