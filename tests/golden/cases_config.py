"""The default config's keys, values and types, on either engine.

Run as a script, it writes them to `config_defaults.json` beside it; the file in the repository was recorded on stock
Detectron2.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("config_defaults.json")


def flat(cfg: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in cfg.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _type(value: Any) -> str:
    """The type's name, with those of the members of lists and tuples: `tuple[tuple[float], tuple[float]]`."""
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{', '.join(_type(member) for member in value)}]"
    return type(value).__name__


def config_defaults() -> dict[str, list]:
    """Every key of `get_cfg()` → [value, type]."""
    from detectron2.config import get_cfg

    return {name: [value, _type(value)] for name, value in sorted(flat(get_cfg()))}


CASES = {"config_defaults": config_defaults}

if __name__ == "__main__":
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in config_defaults().items())
    RECORDED.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
