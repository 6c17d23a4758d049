"""Paths and addresses."""

import pytest
from iopath.common.file_io import HTTPURLHandler

from detectron2.utils.file_io import PathManager


def test_local_files(tmp_path):
    path = str(tmp_path / "a" / "b.txt")
    PathManager.mkdirs(str(tmp_path / "a"))
    with PathManager.open(path, "w") as file:
        file.write("x")
    assert PathManager.isfile(path) and PathManager.get_local_path(path) == path


def test_detectron2_addresses_are_http_addresses(tmp_path, monkeypatch):
    asked = []

    def download(self, path, force=False, cache_dir=None, **kwargs):
        asked.append(path)
        local = tmp_path / "cached.pkl"
        local.write_text("weights")
        return str(local)

    monkeypatch.setattr(HTTPURLHandler, "_get_local_path", download)
    assert PathManager.get_local_path("detectron2://ImageNetPretrained/MSRA/R-50.pkl") == str(tmp_path / "cached.pkl")
    with PathManager.open("detectron2://x.pkl") as file:
        assert file.read() == "weights"
    prefix = "https://dl.fbaipublicfiles.com/detectron2/"
    assert asked == [f"{prefix}ImageNetPretrained/MSRA/R-50.pkl", f"{prefix}x.pkl"]


def test_offline_says_what_to_do(monkeypatch):
    def fail(self, path, force=False, cache_dir=None, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(HTTPURLHandler, "_get_local_path", fail)
    with pytest.raises(OSError, match=r"https://example\.org/a\.pkl: no route.*MODEL\.WEIGHTS /path/to/file"):
        PathManager.get_local_path("https://example.org/a.pkl")
