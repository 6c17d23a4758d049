"""Files that appear whole or not at all."""

import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from detectron2.utils.file_io import PathManager


def write_whole(path: str, write: Callable[[IO[Any]], Any], check: Callable[[str], Any] | None = None) -> None:
    """Writes beside the target, flushes to the disk and renames; the old file stays until then.

    Args:
        path: a local file name, or an address (`scheme://…`) that `PathManager` can write. Those have no rename:
            such a file is written in place and not checked; to be whole is its handler's duty.
        write: gets the open binary file.
        check: gets the name of the finished temporary file and raises if it is not as it should be.

    Raises:
        OSError: the folder is missing, full or not writable; the target is as it was before.
    """
    if "://" in path:
        with PathManager.open(path, "wb") as file:
            write(file)
        return
    target = Path(path)
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            try:
                write(file)
            except RuntimeError as error:  # of torch's writer, which hides what the system said
                if isinstance(error.__context__, OSError):
                    raise OSError(error.__context__.errno, error.__context__.strerror, path) from error
                raise
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(str(temporary))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _remove_leftovers(target: Path) -> None:
    """Removes what processes that were killed while they wrote this file have left beside it."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        process = leftover.name.split(".")[-2]
        if process.isdigit() and os.name == "posix" and not _is_running(int(process)):
            leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where the file system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot; the file itself is complete
        pass
    finally:
        os.close(descriptor)
