"""Stand-ins for classes and functions whose dependency is not installed: they import, a use says what is missing."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["create_dummy_class", "create_dummy_func"]


def create_dummy_class(klass: str, dependency: str | Sequence[str], message: str = "") -> type:
    """A class that can be imported and subclassed; an instance or a public attribute of it is an ImportError.

    Args:
        klass: its name.
        dependency: what cannot be imported.
        message: what to do about it.
    """
    text = _missing(klass, dependency, message)

    class Refusing(type):
        def __getattr__(cls, name: str) -> NoReturn:
            if name.startswith("__"):  # asked for by Python itself
                raise AttributeError(name)
            raise ImportError(text)

    def __init__(self: object, *args: Any, **kwargs: Any) -> None:
        raise ImportError(text)

    return Refusing(klass, (), {"__init__": __init__, "__doc__": text})


def create_dummy_func(func: str, dependency: str | Sequence[str], message: str = "") -> Callable[..., NoReturn]:
    """A function that can be imported; a call is an ImportError. Arguments as in :func:`create_dummy_class`."""
    text = _missing(func, dependency, message)

    def refusing(*args: Any, **kwargs: Any) -> NoReturn:
        raise ImportError(text)

    refusing.__name__ = refusing.__qualname__ = func
    refusing.__doc__ = text
    return refusing


def _missing(name: str, dependency: str | Sequence[str], message: str) -> str:
    listed = dependency if isinstance(dependency, str) else ", ".join(dependency)
    return f"Cannot import '{listed}', therefore '{name}' is not available. {message}".rstrip()
