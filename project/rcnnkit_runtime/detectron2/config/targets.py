"""Which callables a config may name as `_target_`: an allow-list, because a YAML file comes from anywhere.

A name passes when it starts with an allowed prefix, and what it leads to lives under one as well: `detectron2.data`
is allowed, yet `detectron2.data.build.os.system` leads to the module `os` and is refused. Callables that Python code
hands over as objects are not checked, as that code has run already.
"""

import types
from typing import Any

from detectron2.utils.registry import _convert_target_to_string, locate

__all__ = ["allow_targets", "dotted_name", "locate_target", "trust_target"]

# Parts that models, data and training are made of. Left out on purpose: whatever runs, fetches or unpickles something
# by name, such as detectron2.config, detectron2.utils, torch.load, torch.hub.
_ALLOWED = {
    "detectron2.checkpoint.DetectionCheckpointer",
    "detectron2.data",
    "detectron2.engine.hooks",
    "detectron2.evaluation",
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.solver",
    "detectron2.structures",
    "fvcore.common.param_scheduler",
    "fvcore.nn",
    "fvcore.transforms",
    "omegaconf.DictConfig",
    "omegaconf.ListConfig",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "rcnnkit.data",
    "rcnnkit.engine",
    "rcnnkit.evaluation",
    "rcnnkit.modeling",
    "torch.Generator",
    "torch.Tensor",
    "torch.amp",
    "torch.device",
    "torch.nn",
    "torch.optim",
    "torch.tensor",
    "torch.utils.data.DataLoader",
    "torch.utils.data.RandomSampler",
    "torch.utils.data.SequentialSampler",
    "torch.utils.data.distributed.DistributedSampler",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
}
# Homes of compiled functions that torch.nn.functional and its like pass on under their own names.
_COMPILED = {"torch", "torch._C._nn", "torch._C", "torch.functional"}


class TargetRefused(ValueError):
    """A `_target_` outside the allow-list."""


def allow_targets(*prefixes: str) -> None:
    """Let configs name the callables of a package (and all below it) as `_target_`.

    Call it before `instantiate`, for the packages whose code you trust: ``allow_targets("my_project")``.

    Args:
        prefixes: dotted names of packages, modules, classes or functions.
    """
    for prefix in prefixes:
        if not prefix or not all(part.isidentifier() for part in prefix.split(".")):
            raise ValueError(f"allow_targets: {prefix!r} is not a dotted name such as 'my_project.modeling'")
        _ALLOWED.add(prefix)


def trust_target(name: str) -> None:
    """Allow one name that Python code, which runs already, has given itself."""
    _ALLOWED.add(name)


def dotted_name(target: Any) -> str:
    """The name that locates a class or function again; a name stays as it is.

    Raises:
        AttributeError: the object has no name that leads to it.
    """
    return target if isinstance(target, str) else _convert_target_to_string(target)


def _is_allowed(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:depth]) in _ALLOWED for depth in range(1, len(parts) + 1))


def _leads_outside(name: str, target: Any) -> str | None:
    """The place outside the allow-list that an allowed name passes or ends in; None if there is none."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        step = ".".join(parts[:depth])
        found = locate(step)
        if isinstance(found, types.ModuleType) and found.__name__ != step and not _is_allowed(found.__name__):
            return found.__name__
    home = getattr(target, "__module__", None)
    if home is None or home in _COMPILED or name in _ALLOWED or isinstance(target, types.ModuleType):
        return None
    return None if _is_allowed(f"{home}.{getattr(target, '__qualname__', '')}") else home


def locate_target(name: str) -> Any:
    """Import what a `_target_` names, if the allow-list has it; nothing is imported otherwise.

    Raises:
        TargetRefused: outside the allow-list; says how to allow it.
        ImportError: there is no such thing.
    """
    if not _is_allowed(name) or any(part.startswith("__") for part in name.split(".")[1:]):
        raise TargetRefused(
            f"The config's _target_ {name!r} is not on the allow-list, so it was not imported. If you trust it: "
            f"detectron2.config.targets.allow_targets({name.split('.')[0]!r}), "
            f"or --allow-target {name.split('.')[0]} of tools/lazyconfig_train_net.py."
        )
    target = locate(name)
    outside = _leads_outside(name, target)
    if outside is not None:
        raise TargetRefused(
            f"The config's _target_ {name!r} leads to {outside!r}, which is not on the allow-list. If you trust it: "
            f"name it directly and call detectron2.config.targets.allow_targets({outside!r})."
        )
    return target
