"""`KEY=VALUE` overrides of lazy configs, in the part of Hydra's grammar that changes values.

A value is a number, true, false, null, text with or without quotes, [a, list] or {a: mapping}.
"""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, GrammarParseError
from omegaconf.grammar_parser import parse
from omegaconf.grammar_visitor import GrammarVisitor

__all__ = ["override"]


class OverrideError(ValueError):
    """An override that cannot be read; names it."""


def _no_interpolation(*_: Any) -> Any:
    raise AssertionError("values with interpolations are kept as text")


def _value(text: str, whole: str) -> Any:
    """The Python value of the right-hand side; interpolations stay text, which omegaconf resolves later."""
    text = text.strip()
    if "${" in text and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if not text or "${" in text:
        return text
    try:
        tree = parse(text, parser_rule="singleElement", lexer_mode="VALUE_MODE")
        return GrammarVisitor(_no_interpolation, _no_interpolation, memo=None).visit(tree)
    except GrammarParseError as error:
        raise OverrideError(
            f"Cannot read the override {whole!r}: write lists as [1,2], mappings as {{a: 1}}, other text in quotes. "
            f"{str(error).splitlines()[0]}"
        ) from error


def override(cfg: DictConfig, text: str) -> None:
    """Apply one ``a.b.c=value`` in place; missing keys are made. A leading + or ++ (as in Hydra) changes nothing.

    Raises:
        OverrideError: not of that form.
        NotImplementedError: ``~a.b``, Hydra's deletion.
        KeyError: a part of the path is not a mapping.
    """
    if text.startswith("~"):
        raise NotImplementedError(f"{text!r}: deletion is not yet a supported override")
    key, equals, value = text.partition("=")
    key = key.strip().lstrip("+")
    if not equals or not key:
        raise OverrideError(f"Cannot read the override {text!r}: it has to look like path.to.key=value")
    _check_path(cfg, key)
    try:
        OmegaConf.update(cfg, key, _value(value, text), merge=True, force_add=True)
    except ConfigKeyError as error:
        raise KeyError(f"Cannot apply the override {text!r}: {error}") from error


def _check_path(cfg: DictConfig, key: str) -> None:
    parts = key.split(".")
    for depth in range(1, len(parts)):
        prefix = ".".join(parts[:depth])
        node = OmegaConf.select(cfg, prefix, throw_on_missing=False)
        if node is not None and not OmegaConf.is_config(node):
            raise KeyError(
                f"Trying to update key {key}, but {prefix} is not a config, but has type {type(node).__name__}."
            )
