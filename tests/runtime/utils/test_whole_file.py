import errno
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from iopath.common.file_io import PathHandler
from iopath.common.file_io import PathManager as PathManagerBase

from detectron2.utils import whole_file
from detectron2.utils.whole_file import write_whole


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "file"
    write_whole(str(path), lambda file: file.write(b"one"))
    write_whole(str(path), lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("fails", ["write", "check"])
def test_a_failure_leaves_the_old_file(tmp_path, fails):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(_):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        if fails == "write":
            write_whole(str(path), fail)
        else:
            write_whole(str(path), lambda file: file.write(b"new"), check=fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_check_sees_the_whole_content(tmp_path):
    seen = []
    write_whole(
        str(tmp_path / "file"),
        lambda file: file.write(b"x" * 10),
        check=lambda name: seen.append(Path(name).read_bytes()),
    )
    assert seen == [b"x" * 10]


def test_a_full_disk_is_told_through_torchs_writer(tmp_path):
    """Its own error says nothing of the file or the reason. A limit of file sizes stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_whole(str(tmp_path / "file"), lambda file: torch.save(torch.zeros(100_000), file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f".file.{gone.pid}.tmp", f".file.{os.getppid()}.tmp", f".other.{gone.pid}.tmp", ".file.mine.tmp"):
        (tmp_path / name).write_bytes(b"half")
    write_whole(str(tmp_path / "file"), lambda file: file.write(b"whole"))
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"file", f".file.{os.getppid()}.tmp", f".other.{gone.pid}.tmp", ".file.mine.tmp"}


class InMemory(PathHandler):
    """A store without renames."""

    def __init__(self):
        self.files: dict[str, io.BytesIO] = {}

    def _get_supported_prefixes(self):
        return ["memory://"]

    def _open(self, path, mode="r", buffering=-1, **kwargs):
        self.files[path] = file = io.BytesIO()
        file.close = lambda: None
        return file


def test_addresses_are_written_by_their_handler(monkeypatch):
    store = InMemory()
    manager = PathManagerBase()
    manager.register_handler(store)
    monkeypatch.setattr(whole_file, "PathManager", manager)
    write_whole("memory://bucket/file", lambda file: file.write(b"new"))
    assert store.files["memory://bucket/file"].getvalue() == b"new"
