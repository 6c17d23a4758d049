"""CfgNode, the current config, and `configurable`, which lets a constructor be called with a config."""

import functools
import inspect
import logging
import os
from collections.abc import Callable
from typing import Any

import yaml
from fvcore.common.config import CfgNode as _CfgNode

from detectron2.config.arithmetic import evaluate_arithmetic
from detectron2.utils.file_io import PathManager
from detectron2.utils.registry import nearest_first

__all__ = ["CfgNode", "configurable", "get_cfg", "global_cfg", "set_global_cfg"]


class UnknownConfigKeyError(KeyError, AssertionError):
    """A config file or an override names a key that has no default."""

    def __str__(self) -> str:
        return str(self.args[0])


class CfgNode(_CfgNode):
    """A tree of config values with attribute access.

    On top of fvcore's: files are opened through PathManager, are checked for unknown keys as a whole before anything is
    merged, never run code, and are upgraded when they use an older version's names. `clone`, `freeze`, `defrost` and
    `merge_from_list` are yacs's.
    """

    @classmethod
    def _open_cfg(cls, filename: str):
        return PathManager.open(filename, "r")

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Read a YAML file and, before it, the files that its `_BASE_` names. Never runs code.

        Args:
            filename: path or address.
            allow_unsafe: accepted for compatibility and ignored: only plain YAML, python/tuple tags and arithmetic
                under eval tags load.

        Raises:
            ValueError: the file is not YAML, not a mapping, or carries other tags; or the `_BASE_` chain is a circle.
        """
        return _load_with_base(cls, filename, ())

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Merge a YAML file, with its `_BASE_` chain, into this config.

        Args:
            cfg_filename: path or address.
            allow_unsafe: accepted for compatibility and ignored: files never run code.

        Raises:
            AssertionError: the file does not exist or is of a newer version.
            KeyError: it has a key that this config lacks; names the file and the nearest key.
            ValueError: it is not a mapping in safe YAML, or a value's type differs from the default's.
        """
        assert _may_exist(cfg_filename), f"Config file '{cfg_filename}' does not exist!"
        loaded = type(self)(self.load_yaml_with_base(cfg_filename))

        # defaults.py needs CfgNode, so the modules that need the defaults are imported late.
        from detectron2.config.compat import guess_version, upgrade_config
        from detectron2.config.defaults import _C

        latest = _C.VERSION
        assert latest == self.get("VERSION", latest), (
            "CfgNode.merge_from_file is only for configs of the latest version!"
        )
        version = loaded.get("VERSION", None)
        if version is None:
            version = guess_version(loaded, cfg_filename)
        if not isinstance(version, int):
            raise ValueError(f"Config file '{cfg_filename}': VERSION must be an integer, not {version!r}")
        assert version <= latest, (
            f"Config file '{cfg_filename}': cannot merge a v{version} config into a v{latest} config."
        )
        if version != latest:
            logging.getLogger(__name__).warning(
                "Config file '%s' is of version %d; it was upgraded to version %d in memory.",
                cfg_filename,
                version,
                latest,
            )
            loaded.VERSION = version
            loaded = upgrade_config(loaded)
        _check_keys(loaded, self, f"in config file '{cfg_filename}'")
        try:
            self.merge_from_other_cfg(loaded)
        except ValueError as error:
            raise ValueError(f"Config file '{cfg_filename}': {error}") from error

    def merge_from_list(self, cfg_list: list) -> None:
        """Merge `[KEY, VALUE, KEY, VALUE, ...]`; VALUE may be a string that is read as a Python literal.

        Raises:
            AssertionError: a key has no value.
            KeyError: a key that this config lacks (also an AssertionError, as yacs raises); names the nearest key.
            ValueError: a value's type differs from the default's.
        """
        if len(cfg_list) % 2:
            raise AssertionError(f"Override list has odd length: {cfg_list}; it must be a list of pairs KEY VALUE")
        for key in cfg_list[0::2]:
            if key != "_BASE_" and not _contains(self, str(key)):
                raise _unknown_key(str(key), self, "in the command-line overrides")
        return super().merge_from_list(cfg_list)


class _ConfigLoader(yaml.SafeLoader):
    """Safe YAML, the tag with which PyYAML itself writes tuples, and arithmetic in the place of `eval`."""


def _construct_tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(None, None, "a tuple needs a sequence", node.start_mark)
    return tuple(loader.construct_sequence(node, deep=True))


def _construct_arithmetic(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    arguments = loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else []
    if len(arguments) != 1 or not isinstance(arguments[0], str):
        raise yaml.constructor.ConstructorError(None, None, "eval takes a list of one text", node.start_mark)
    try:
        return evaluate_arithmetic(arguments[0])
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


_ConfigLoader.add_constructor("tag:yaml.org,2002:python/tuple", _construct_tuple)
_ConfigLoader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _construct_arithmetic)


def _load_with_base(cls: type[CfgNode], filename: str, below: tuple[str, ...]) -> dict[str, Any]:
    identity = filename if "://" in filename else os.path.realpath(filename)
    if identity in below:
        raise ValueError(f"Config file '{filename}' is its own _BASE_: {' → '.join([*below, identity])}")
    try:
        with cls._open_cfg(filename) as file:
            values = yaml.load(file, Loader=_ConfigLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Config file '{filename}' is not plain YAML: {error}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ValueError(f"Config file '{filename}' must hold KEY: value pairs, not a {type(values).__name__}")
    bases = values.pop("_BASE_", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        path = _base_path(base, filename)
        if not _may_exist(path):
            raise FileNotFoundError(f"Config file '{filename}': its _BASE_ '{base}' does not exist (looked at {path})")
        _update(merged, _load_with_base(cls, path, (*below, identity)), filename)
    _update(merged, values, filename)
    return merged


def _may_exist(path: str) -> bool:
    """Addresses cannot be asked; opening them will tell."""
    return "://" in path or PathManager.isfile(path)


def _base_path(base: str, filename: str) -> str:
    """A `_BASE_` is relative to the file that names it, unless absolute, below ~, or an address."""
    base = os.path.expanduser(base)
    if os.path.isabs(base) or "://" in base:
        return base
    return os.path.join(os.path.dirname(filename), base)


def _update(into: dict[str, Any], values: dict[str, Any], filename: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and key in into:
            if not isinstance(into[key], dict):
                raise ValueError(f"Config file '{filename}': {key} is a section here but a value in its _BASE_")
            _update(into[key], value, filename)
        else:
            into[key] = value


def _leaves(cfg: dict, prefix: str = "") -> list[str]:
    """Dotted names of all values and sections."""
    names = []
    for key, value in cfg.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _leaves(value, f"{prefix}{key}.")
    return names


def _contains(cfg: CfgNode, name: str) -> bool:
    node: Any = cfg
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return _is_renamed(cfg, name)
        node = node[part]
    return True


def _is_renamed(cfg: CfgNode, name: str) -> bool:
    """Whether the node lets this key pass: yacs's deprecated and renamed keys."""
    return cfg.key_is_deprecated(name) or cfg.key_is_renamed(name)


def _unknown_key(name: str, cfg: CfgNode, where: str) -> UnknownConfigKeyError:
    nearest = nearest_first(name, _leaves(cfg))
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return UnknownConfigKeyError(f"Non-existent config key: '{name}' {where}{hint}")


def _check_keys(loaded: dict, cfg: CfgNode, where: str, prefix: str = "", root: CfgNode | None = None) -> None:
    """Refuse keys that the config lacks, before anything is merged. Nodes that allow new keys take all."""
    root = cfg if root is None else root
    for key, value in loaded.items():
        name = f"{prefix}{key}"
        if key not in cfg:
            if cfg.is_new_allowed() or _is_renamed(root, name):
                continue
            raise _unknown_key(name, root, where)
        if isinstance(value, dict) and isinstance(cfg[key], CfgNode):
            _check_keys(value, cfg[key], where, f"{name}.", root)


global_cfg = CfgNode()


def get_cfg() -> CfgNode:
    """Return a fresh copy of the default config, not frozen."""
    from detectron2.config.defaults import _C

    return _C.clone()


def set_global_cfg(cfg: CfgNode) -> None:
    """Make `detectron2.config.global_cfg` show a config. For code that cannot be handed one; prefer passing it."""
    global_cfg.clear()
    global_cfg.update(cfg)


def configurable(init_func: Callable | None = None, *, from_config: Callable[..., dict] | None = None) -> Callable:
    """Let a constructor or function with explicit arguments also be called with a config.

    For a class, decorate `__init__` and add a classmethod `from_config(cls, cfg, ...)` that returns the arguments::

        class Head(nn.Module):
            @configurable
            def __init__(self, num_classes, *, norm=""): ...

            @classmethod
            def from_config(cls, cfg, input_shape):
                return {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}

        Head(num_classes=3)          # explicit
        Head(cfg, input_shape)       # by config
        Head(cfg, input_shape, norm="BN")  # by config, with some arguments explicit

    For a function, pass what turns a config into arguments: `@configurable(from_config=lambda cfg: {...})`.

    A call is by config when its first positional argument, or its argument `cfg`, is a config. `from_config` then gets
    the arguments that it takes; the others go to the constructor and win over what `from_config` returns.

    Raises:
        TypeError: on a call by config, `from_config` does not begin with `cfg`, or is no classmethod.
        AttributeError: the class has no `from_config`.
    """
    if init_func is not None:
        misuse = "Incorrect use of @configurable: without arguments it decorates the __init__ of a class."
        assert inspect.isfunction(init_func) and from_config is None and init_func.__name__ == "__init__", misuse
        return _configurable_init(init_func)
    assert from_config is not None, "Incorrect use of @configurable: a function needs @configurable(from_config=...)."
    assert inspect.isfunction(from_config), "from_config argument of configurable must be a function!"
    return functools.partial(_configurable_function, from_config=from_config)


def _configurable_init(init_func: Callable) -> Callable:
    @functools.wraps(init_func)
    def wrapped(self, *args, **kwargs):
        # type(self), not the class of this __init__: a subclass may bring a from_config of its own.
        cls = type(self)
        try:
            from_config_func = cls.from_config
        except AttributeError as error:
            raise AttributeError(
                f"{cls.__name__}: class with @configurable must have a 'from_config' classmethod."
            ) from error
        if not inspect.ismethod(from_config_func):
            raise TypeError(f"{cls.__name__}: class with @configurable must have a 'from_config' classmethod.")
        if _called_with_cfg(*args, **kwargs):
            init_func(self, **_get_args_from_config(from_config_func, *args, **kwargs))
        else:
            init_func(self, *args, **kwargs)

    return wrapped


def _configurable_function(func: Callable, *, from_config: Callable[..., dict]) -> Callable:
    @functools.wraps(func)
    def wrapped(*args, **kwargs):
        if _called_with_cfg(*args, **kwargs):
            return func(**_get_args_from_config(from_config, *args, **kwargs))
        return func(*args, **kwargs)

    wrapped.from_config = from_config  # type: ignore[attr-defined]
    return wrapped


def _get_args_from_config(from_config_func: Callable[..., dict], *args, **kwargs) -> dict[str, Any]:
    """Ask `from_config` for arguments; what it does not take goes to the constructor directly, over its answer."""
    parameters = inspect.signature(from_config_func).parameters
    if next(iter(parameters), None) != "cfg":
        owner = getattr(from_config_func, "__self__", None)
        name = (
            f"{owner}.from_config" if inspect.isclass(owner) else getattr(from_config_func, "__name__", "from_config")
        )
        raise TypeError(f"{name} must take 'cfg' as the first argument!")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if any(parameter.kind in variadic for parameter in parameters.values()):
        return from_config_func(*args, **kwargs)
    explicit = {name: kwargs.pop(name) for name in list(kwargs) if name not in parameters}
    return {**from_config_func(*args, **kwargs), **explicit}


def _called_with_cfg(*args, **kwargs) -> bool:
    """Whether the first positional argument, or the argument `cfg`, is a config (yacs or omegaconf)."""
    from omegaconf import DictConfig

    kinds = (_CfgNode, DictConfig)
    return (bool(args) and isinstance(args[0], kinds)) or isinstance(kwargs.get("cfg"), kinds)
