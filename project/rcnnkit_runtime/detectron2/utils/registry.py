"""Names to objects: registries of pluggable parts, and import by dotted name."""

import difflib
import importlib
import sys
from typing import Any

from fvcore.common.registry import Registry as _FvcoreRegistry

__all__ = ["Registry", "locate"]


def nearest_first(name: str, known: list[str]) -> list[str]:
    """Sort `known` by how much each resembles `name` (case ignored), the most alike first."""
    wanted = name.lower()
    return sorted(known, key=lambda k: (-difflib.SequenceMatcher(None, wanted, k.lower()).ratio(), k))


class Registry(_FvcoreRegistry):
    """fvcore's registry, whose miss lists the names that it has, nearest spelling first."""

    def get(self, name: str) -> Any:
        """Return the object registered under `name`; a miss is a KeyError that lists the names, nearest first."""
        if name in self._obj_map:
            return self._obj_map[name]
        known = ", ".join(nearest_first(str(name), list(self._obj_map)))
        raise KeyError(
            f"No object named '{name}' found in '{self._name}' registry! "
            f"Registered, nearest first: {known or 'nothing yet; import the module that registers it'}"
        )


def _convert_target_to_string(t: Any) -> str:
    """Return the dotted name of a class or function, by the shallowest module that exposes the same object."""
    module, qualname = t.__module__, t.__qualname__
    parts = module.split(".")
    for depth in range(1, len(parts)):
        candidate = ".".join(parts[:depth])
        found: Any = sys.modules.get(candidate)
        for attribute in qualname.split("."):
            found = getattr(found, attribute, None)
        if found is t:
            return f"{candidate}.{qualname}"
    return f"{module}.{qualname}"


def locate(name: str) -> Any:
    """Import whatever a dotted name points at: a module, or a (nested) attribute of one.

    Raises:
        ImportError: no module of that name imports, or it lacks the attribute; names the part that failed.
    """
    parts = [part for part in name.split(".") if part]
    if not parts:
        raise ImportError(f"Cannot locate object {name!r}: the name is empty")
    try:
        found: Any = importlib.import_module(parts[0])
    except ImportError as error:
        raise ImportError(f"Cannot locate object {name!r}: module {parts[0]!r} does not import ({error})") from error
    for depth, part in enumerate(parts[1:], start=1):
        if hasattr(found, part):
            found = getattr(found, part)
            continue
        parent = ".".join(parts[:depth])
        try:
            found = importlib.import_module(f"{parent}.{part}")
        except ImportError as error:
            raise ImportError(f"Cannot locate object {name!r}: {parent!r} has no {part!r} ({error})") from error
    return found
