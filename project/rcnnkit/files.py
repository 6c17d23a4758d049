"""Files and folders that appear whole or not at all: written beside their place, flushed to the disk, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from rcnnkit.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, its folder too where it is missing; an older file stays until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)  # mkstemp makes it readable by its owner only
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, its folder too where it is missing; an older file stays until the new one is complete."""
    with whole_file(path) as file:
        file.write(content)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a (H, W, 3) uint8 BGR picture in the format that the file's name ends with."""
    fine, content = cv2.imencode(path.suffix, picture)
    if not fine:
        raise OSError(f"{path}: the picture could not be encoded")
    write_bytes(path, content.tobytes())


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A draft of a folder to write into, which gets its name when all is written; nothing is ever overwritten.

    Raises:
        UserError: the folder is there already and not empty, or is a file.
    """
    path = Path(os.path.abspath(path))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: is there already, and nothing is overwritten; name a new folder or delete it")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it readable by its owner only
        os.sync()
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
