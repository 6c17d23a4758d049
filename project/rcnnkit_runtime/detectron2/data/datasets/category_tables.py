"""Category lists that travel as compressed JSON beside this file: {"keys": [...], "rows": [[...], ...]}."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent


def read_table(name: str) -> list[dict[str, Any]]:
    """The rows of `<name>.json.gz` as dicts.

    Args:
        name: a file beside this module, without its endings.
    """
    with gzip.open(_FOLDER / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        table = json.load(file)
    return [dict(zip(table["keys"], row)) for row in table["rows"]]
