"""JSON files that people and tools wrote, whole or their beginning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HEAD = 1 << 16


class JsonError(ValueError):
    """A file that cannot be read or is not JSON; the message says what to do."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        JsonError: the file cannot be read, or it is truncated or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise JsonError(f"the file cannot be read ({error.strerror}); mend or remove it") from error
    except (ValueError, RecursionError) as error:
        raise JsonError(f"the file is truncated or not JSON ({error}); write it again") from error


def head(path: Path, size: int = HEAD) -> str:
    """The first `size` bytes of a file as text; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size).decode("utf-8", errors="replace")
    except OSError:
        return ""
