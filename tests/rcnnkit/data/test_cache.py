"""Entries of the cache: when they are used, and that a damaged or outdated one is not."""

import logging
import math
import os

import pytest

from detectron2.structures import BoxMode
from rcnnkit.data import cache
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog, Skeleton
from rcnnkit.data.tree import Tree


class CountingReader:
    """Reads a folder of text files, each with the width of a box."""

    name = "counting"
    reads = 0  # of all readers

    def __init__(self, **more):
        self.more = more

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        CountingReader.reads += 1
        files = tree.with_suffix(".txt")
        records = [
            {
                "file_name": str(path), "height": 4, "width": 4, "image_id": number,
                "annotations": [
                    {"category_id": 0, "bbox": [0.1, 0.2, float(path.read_text()), 3.0], "bbox_mode": BoxMode.XYWH_ABS,
                     "iscrowd": 0, **self.more}
                ],
            }
            for number, path in enumerate(files)
        ]  # fmt: skip
        problems.add("odd", files[0], "look at it", id=3, field="width", value=0, severity=WARNING)
        skeletons = {0: Skeleton(("a", "b"), ((0, 1),), ((0, 1),)), 1: Skeleton(("c",))}
        return LabelledData("counting", ["x", "y"], records, files, skeletons, [7, 9])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RCNNKIT_CACHE", raising=False)
    monkeypatch.setattr(cache, "SMALL_FOLDER", 1)
    monkeypatch.setattr(CountingReader, "reads", 0)
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(str(number))
    (folder / "picture.png").write_bytes(b"as good as an image")
    return folder


def read(reader, folder, split=None) -> tuple[LabelledData, ProblemLog]:
    problems = ProblemLog()
    return cache.read_cached(reader, Tree(folder), split, problems), problems


def entries(tmp_path) -> list:
    return sorted((tmp_path / "cache" / "rcnnkit").glob("*"))


def test_the_second_reading_is_the_first(folder, tmp_path):
    reader = CountingReader()
    first, second = read(reader, folder), read(reader, folder)
    assert CountingReader.reads == 1
    assert first == second
    assert second[0].skeletons[0].flip_pairs == ((0, 1),) and second[0].skeletons[1].flip_pairs is None
    assert type(second[0].records[0]["annotations"][0]["bbox_mode"]) is BoxMode
    assert len(entries(tmp_path)) == 1


def test_earlier_problems_stay(folder):
    problems = ProblemLog()
    problems.add("earlier", "x", "y")
    for _ in range(2):
        cache.read_cached(CountingReader(), Tree(folder), None, problems)
    assert [problem.kind for problem in problems] == ["earlier", "odd", "odd"]


def change_text(folder):
    (folder / "1.txt").write_text("8")


def change_text_of_the_same_age(folder):
    before = (folder / "1.txt").stat()
    (folder / "1.txt").write_text("8")
    os.utime(folder / "1.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


def change_image(folder):
    (folder / "picture.png").write_bytes(b"another")


def touch_image(folder):
    os.utime(folder / "picture.png", ns=(1, 1))


def add_file(folder):
    (folder / "4.txt").write_text("4")


def rename_file(folder):
    (folder / "1.txt").rename(folder / "11.txt")


@pytest.mark.parametrize(
    "change", [change_text, change_text_of_the_same_age, change_image, touch_image, add_file, rename_file]
)
def test_any_change_is_read(folder, change):
    reader = CountingReader()
    read(reader, folder)
    change(folder)
    found = read(reader, folder)
    assert CountingReader.reads == 2
    problems = ProblemLog()
    assert found == (reader.read(Tree(folder), None, problems), problems)


def test_parts_settings_and_versions_are_apart(folder, monkeypatch):
    for split in (None, "train", "None"):
        read(CountingReader(), folder, split)
    assert CountingReader.reads == 3
    read(CountingReader(margin=0.1), folder)
    assert CountingReader.reads == 4
    monkeypatch.setattr(CountingReader, "version", 2, raising=False)
    read(CountingReader(), folder)
    assert CountingReader.reads == 5


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:-20], lambda text: b"", lambda text: b"[]", lambda text: text.replace(b"skel", b"lek")],
)
def test_a_damaged_entry_is_written_again(folder, tmp_path, damage, caplog):
    first = read(CountingReader(), folder)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    reader = CountingReader()
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        assert read(reader, folder) == first
    assert CountingReader.reads == 2 and "cannot be read" in caplog.text
    assert entry.read_bytes() == whole


@pytest.mark.parametrize("value", [math.nan, math.inf, (1, 2), {1: 2}])
def test_what_json_cannot_hold_is_not_kept(folder, tmp_path, value):
    reader = CountingReader(odd=value)
    first, second = read(reader, folder)[0], read(reader, folder)[0]
    assert CountingReader.reads == 2 and entries(tmp_path) == []
    assert repr(first) == repr(second)


def test_a_folder_that_cannot_be_written_is_no_error(folder, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file, not a folder")
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        assert read(CountingReader(), folder)[0].classes == ["x", "y"]
    assert "cannot be" in caplog.text


@pytest.mark.parametrize("value", ["off", "OFF", "0"])
def test_off(folder, tmp_path, monkeypatch, value):
    monkeypatch.setenv("RCNNKIT_CACHE", value)
    reader = CountingReader()
    read(reader, folder)
    read(reader, folder)
    assert CountingReader.reads == 2 and entries(tmp_path) == []


def test_what_is_read_fast_is_not_kept(folder, tmp_path, monkeypatch):
    reader = CountingReader()
    reader.name = "coco"
    read(reader, folder)
    monkeypatch.setattr(cache, "SMALL_FOLDER", 50)
    read(CountingReader(), folder)
    assert entries(tmp_path) == []
