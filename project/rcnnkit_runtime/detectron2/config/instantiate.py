"""Objects from configs: a mapping with `_target_` is a call that is made when somebody asks for its result."""

import collections.abc
import dataclasses
import logging
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from detectron2.config.targets import dotted_name, locate_target

__all__ = ["dump_dataclass", "instantiate"]


def dump_dataclass(obj: Any) -> dict[str, Any]:
    """Turn an instance of a dataclass, and those among its fields, into a mapping that `instantiate` turns back."""
    assert dataclasses.is_dataclass(obj) and not isinstance(obj, type), (
        f"dump_dataclass() requires an instance of a dataclass, got {obj!r}."
    )
    result = {"_target_": dotted_name(type(obj))}
    for field in dataclasses.fields(obj):
        value = getattr(obj, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dump_dataclass(value)
        elif isinstance(value, (list, tuple)):
            value = [dump_dataclass(x) if dataclasses.is_dataclass(x) else x for x in value]
        result[field.name] = value
    return result


def instantiate(cfg: Any) -> Any:
    """Make the call that a config describes, its arguments first.

    Args:
        cfg: a mapping with `_target_`, a callable or the dotted name of one; its other keys are keyword arguments,
            among which further such mappings, directly or in lists, are called as well. A list gives a list. Anything
            else, a mapping without `_target_` included, is returned as it is.

    Raises:
        ValueError: a `_target_` given by name is not on the allow-list, see `detectron2.config.targets.allow_targets`.
        ImportError: there is nothing of that name.
    """
    if isinstance(cfg, ListConfig):
        return ListConfig([instantiate(item) for item in cfg], flags={"allow_objects": True})
    if isinstance(cfg, list):
        return [instantiate(item) for item in cfg]
    if isinstance(cfg, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(cfg)):
        return OmegaConf.to_object(cfg)
    if not isinstance(cfg, collections.abc.Mapping) or "_target_" not in cfg:
        return cfg

    arguments = {key: instantiate(value) for key, value in cfg.items() if key != "_target_"}
    target = instantiate(cfg["_target_"])
    if isinstance(target, str):
        target = locate_target(target)
    assert callable(target), f"_target_ {target} does not define a callable object"
    try:
        return target(**arguments)
    except TypeError:
        name = dotted_name(target) if hasattr(target, "__qualname__") else repr(target)
        logging.getLogger(__name__).error(f"Error when instantiating {name}!")
        raise
