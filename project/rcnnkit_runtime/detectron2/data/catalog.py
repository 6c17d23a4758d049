"""Two process-wide tables by dataset name: what loads it (DatasetCatalog), what is known of it (MetadataCatalog)."""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Callable
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any

from detectron2.utils.logger import log_first_n

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog"]


class UnknownDatasetError(KeyError):
    """A name that nothing registered; unlike KeyError it prints as plain text."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def nearest_first(name: str, known: list[str]) -> list[str]:
    """All of `known`, those spelt most like `name` first, the others in their own order."""
    near = get_close_matches(name, known, n=5, cutoff=0.5)
    return near + [other for other in known if other not in near]


class _DatasetCatalog(UserDict):
    """Names of datasets and the functions that load them.

    A function takes no argument and returns the records (list[dict]); it is called at each `get`.
    """

    def register(self, name: str, func: Callable[[], list[dict]]) -> None:
        """Bind `name` to the loading function `func`; a name is bound once."""
        if not callable(func):
            raise AssertionError(f"DatasetCatalog.register({name!r}, ...): needs a function, got {type(func).__name__}")
        if name in self:
            raise AssertionError(f"dataset '{name}' is registered already; remove it first to replace it")
        self[name] = func

    def get(self, name: str) -> list[dict]:  # type: ignore[override]
        """Load and return the records of `name`; UnknownDatasetError (a KeyError) lists the names there are."""
        try:
            func = self.data[name]
        except KeyError:
            names = ", ".join(nearest_first(str(name), self.list())) or "none"
            raise UnknownDatasetError(f"dataset '{name}' is not registered; there are: {names}") from None
        return func()

    def list(self) -> list[str]:
        """Registered names, in the order of registration."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Forget `name`."""
        self.pop(name)

    def __str__(self) -> str:
        return f"DatasetCatalog of {len(self)}: {', '.join(self.keys())}"

    __repr__ = __str__


DatasetCatalog = _DatasetCatalog()


class Metadata(SimpleNamespace):
    """Attributes of one dataset. An attribute can be set again only to the value that it has.

    A missing attribute raises AttributeError that lists those there are.
    """

    name: str = "N/A"

    # attributes by the names that early projects give them
    _TODAYS_NAME = {
        "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
        "class_names": "thing_classes",
        "stuff_class_names": "stuff_classes",
    }

    def __getattr__(self, key: str) -> Any:
        if key in self._TODAYS_NAME:
            return getattr(self, self._todays_name(key))
        if len(self.__dict__) > 1:
            known = ", ".join(nearest_first(key, list(self.__dict__)))
            hint = f"there are {known}"
        else:
            hint = "nothing is known of it"
        raise AttributeError(f"metadata of dataset '{self.name}': no attribute '{key}'; {hint}")

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self._TODAYS_NAME:
            key = self._todays_name(key)
        if key in self.__dict__:
            old = self.__dict__[key]
            if old != value:
                raise AssertionError(
                    f"metadata of dataset '{self.name}': '{key}' is set already and keeps its value: "
                    f"{str(old)[:200]} is not {str(value)[:200]}"
                )
            return
        super().__setattr__(key, value)

    def _todays_name(self, key: str) -> str:
        """The name of an attribute that is asked for by its old one."""
        name = self._TODAYS_NAME[key]
        log_first_n(logging.WARNING, f"metadata attribute '{key}' is called '{name}' today", n=10)
        return name

    def as_dict(self) -> dict[str, Any]:
        """A copy of all attributes, `name` included."""
        return dict(self.__dict__)

    def set(self, **kwargs: Any) -> Metadata:
        """Set several attributes; returns self."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute `key`, or `default` where there is none."""
        return getattr(self, key, default)


class _MetadataCatalog(UserDict):
    """Metadata by the dataset's name; an entry is made when it is first asked for."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """The one Metadata object of `name`."""
        if not name:
            raise AssertionError("MetadataCatalog.get() needs the name of a dataset, got an empty one")
        if name not in self.data:
            self.data[name] = Metadata(name=name)
        return self.data[name]

    def list(self) -> list[str]:
        """Names that have metadata."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Forget the metadata of `name`."""
        self.pop(name)

    def __str__(self) -> str:
        return f"MetadataCatalog of {len(self)}: {', '.join(self.keys())}"

    __repr__ = __str__


MetadataCatalog = _MetadataCatalog()
