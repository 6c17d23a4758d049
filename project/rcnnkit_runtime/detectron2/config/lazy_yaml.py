"""YAML of lazy configs: read without running code, written so that it reads back.

Besides plain YAML these files hold Detectron2's tags for Python objects: `!!python/name:torch.nn.ReLU` is a class or
function, `!!python/object:detectron2.layers.ShapeSpec {...}` a dataclass, `!!python/tuple` a tuple. The first two go
through the allow-list of `_target_`; every other Python tag is refused.
"""

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from detectron2.config.instantiate import dump_dataclass
from detectron2.config.targets import dotted_name, locate_target
from detectron2.utils.registry import locate

__all__ = ["dump", "read"]

_NAME = "tag:yaml.org,2002:python/name:"
_OBJECT = "tag:yaml.org,2002:python/object:"
_TUPLE = "tag:yaml.org,2002:python/tuple"


class _LazyLoader(yaml.SafeLoader):
    """yaml's safe loader and the tags above."""

    find: Callable[[str], Any] = staticmethod(locate_target)

    def construct_name(self, suffix: str, node: yaml.Node) -> Any:
        return type(self).find(suffix)

    def construct_dataclass(self, suffix: str, node: yaml.MappingNode) -> Any:
        found = type(self).find(suffix)
        if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
            raise ConstructorError(None, None, f"{suffix} is not a dataclass, so YAML cannot hold it", node.start_mark)
        fields: dict[Any, Any] = self.construct_mapping(node, deep=True)
        return found(**fields)

    def construct_pair(self, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))


_LazyLoader.add_multi_constructor(_NAME, _LazyLoader.construct_name)
_LazyLoader.add_multi_constructor(_OBJECT, _LazyLoader.construct_dataclass)
_LazyLoader.add_constructor(_TUPLE, _LazyLoader.construct_pair)


class _LazyDumper(yaml.SafeDumper):
    """yaml's safe dumper, with classes and functions by name and dataclasses as calls."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_name(self, data: Any) -> yaml.Node:
        name = dotted_name(data) if getattr(data, "__module__", None) else "<no module>"
        if "<" in name:
            raise yaml.representer.RepresenterError("no name leads to", data)
        return self.represent_scalar(_NAME + name, "")

    def represent_any(self, data: Any) -> yaml.Node:
        if dataclasses.is_dataclass(data):
            return self.represent_dict(dump_dataclass(data))
        raise yaml.representer.RepresenterError("YAML cannot hold", data)


class _ReadableDumper(_LazyDumper):
    """Shows what YAML cannot hold by its repr, under a tag that no loader accepts."""

    def represent_any(self, data: Any) -> yaml.Node:
        return self.represent_scalar("!cannot-be-loaded", repr(data))

    def represent_name(self, data: Any) -> yaml.Node:
        return self.represent_any(data)


for _kind in (types.FunctionType, types.BuiltinFunctionType, types.MethodType):
    _LazyDumper.add_representer(_kind, lambda dumper, data: dumper.represent_name(data))
_LazyDumper.add_multi_representer(type, lambda dumper, data: dumper.represent_name(data))
_LazyDumper.add_multi_representer(object, lambda dumper, data: dumper.represent_any(data))


class _SavingLoader(_LazyLoader):
    """Reads back what this process writes: every name was in use here already."""

    find = staticmethod(locate)


def read(stream: Any, filename: str, own: bool = False) -> Any:
    """Parse YAML without running code.

    Args:
        stream: text or an open file.
        filename: for messages.
        own: the text was made by this process, so that names need not be on the allow-list.

    Raises:
        ValueError: not YAML, or a tag for a Python object that is not allowed; names file and line.
    """
    try:
        return yaml.load(stream, Loader=_SavingLoader if own else _LazyLoader)
    except (yaml.YAMLError, ValueError, ImportError) as error:
        raise ValueError(f"{filename}: {error}") from error


def dump(values: Any, only_for_reading: bool = False) -> str:
    """Write as YAML.

    Args:
        values: plain containers.
        only_for_reading: write objects that YAML cannot name too, so that loading the text fails.

    Raises:
        yaml.representer.RepresenterError: it holds an object that YAML cannot name.
    """
    dumper = _ReadableDumper if only_for_reading else _LazyDumper
    return yaml.dump(values, Dumper=dumper, default_flow_style=None, allow_unicode=True, width=9999)
