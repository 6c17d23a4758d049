"""Evaluation files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import IO

from detectron2.utils.file_io import PathManager


def write_whole(path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a binary file that takes the name `path` only once it is complete and on disk.

    Args:
        path: a local path, or an address that `PathManager` can open for writing (written in place).
        write: called with the open file.
    """
    if "://" in path:
        with PathManager.open(path, "wb") as file:
            write(file)
        return
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes the file private; results are for others to read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
