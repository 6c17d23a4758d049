"""Damage of every kind done to good data: each is found under its kind, at its place, and nothing crashes."""

import copy
import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.data.checks import check
from rcnnkit.data.checks.repair import REPAIRED
from rcnnkit.data.checks.repaired_files import write_repaired
from rcnnkit.errors import UserError
from tests.rcnnkit.data.checked_data import bytes_of, draw_picture, run_length_mask, write_clean, write_json

TRAIN = "annotations/train.json"
NAN, INFINITE = float("nan"), float("inf")

# Objects of the good data by what they have: positions in the list of annotations.
POLYGON, RUNS, BOX, POINTS = 0, 1, 2, 3


def in_annotation(position: int, **values):
    """Other values in an annotation."""
    return lambda content: content["annotations"][position].update(values)


def without(key: str, position: int, field: str):
    return lambda content: content[key][position].pop(field)


def in_list(key: str, position: int, **values):
    return lambda content: content[key].__setitem__(position, {**content[key][position], **values})


def one_more(key: str, position: int, **values):
    """A copy of an entry at the end of its list, with other values."""
    return lambda content: content[key].append({**copy.deepcopy(content[key][position]), **values})


# kind, what it is reported of, damage to the content of train.json. Every problem found is of that place.
OF_AN_OBJECT = [
    ("box-empty", BOX, in_annotation(BOX, bbox=[50, 5, 0, 30])),
    ("box-empty", BOX, in_annotation(BOX, bbox=[50, 5, 10, 0])),
    ("box-negative", BOX, in_annotation(BOX, bbox=[60, 5, -10, 30])),
    ("box-negative", BOX, in_annotation(BOX, bbox=[50, 35, 10, -30])),
    ("box-not-finite", BOX, in_annotation(BOX, bbox=[NAN, 5, 10, 30])),
    ("box-not-finite", BOX, in_annotation(BOX, bbox=[50, 5, 10, INFINITE])),
    ("box-outside", BOX, in_annotation(BOX, bbox=[-4, 5, 10, 30])),
    ("box-outside", BOX, in_annotation(BOX, bbox=[50, -4, 10, 30])),
    ("box-outside", BOX, in_annotation(BOX, bbox=[60, 5, 10, 30])),
    ("box-outside", BOX, in_annotation(BOX, bbox=[50, 40, 10, 30])),
    ("box-outside", BOX, in_annotation(BOX, bbox=[500, 500, 10, 10])),
    ("box-outside", BOX, in_annotation(BOX, bbox=[1e300, 5, 1e300, 30])),
    ("box-outside", BOX, in_annotation(BOX, bbox=[50, 5, 60, 35])),  # two corners for corner and size
    ("box-unreadable", BOX, in_annotation(BOX, bbox=[50, 5, 10])),
    ("box-unreadable", BOX, in_annotation(BOX, bbox=[50, 5, 10, "30"])),
    ("box-unreadable", BOX, in_annotation(BOX, bbox=[50, 5, None, 30])),
    ("box-unreadable", BOX, in_annotation(BOX, bbox="50 5 10 30")),
    ("box-unreadable", BOX, in_annotation(BOX, bbox={"x": 50})),
    ("field-missing", BOX, without("annotations", BOX, "bbox")),
    ("field-missing", BOX, without("annotations", BOX, "category_id")),
    ("polygon-short", POLYGON, in_annotation(POLYGON, segmentation=[[10, 10, 30, 25]])),
    ("polygon-short", POLYGON, in_annotation(POLYGON, segmentation=[[10, 10, 30, 25, 10, 10]])),
    ("polygon-short", POLYGON, in_annotation(POLYGON, segmentation=[[]])),
    ("polygon-odd", POLYGON, in_annotation(POLYGON, segmentation=[[10, 10, 30, 10, 30, 25, 10]])),
    ("polygon-outside", POLYGON, in_annotation(POLYGON, segmentation=[[10, 10, 90, 10, 30, 25]])),
    ("polygon-outside", POLYGON, in_annotation(POLYGON, segmentation=[[10, -9, 30, 10, 30, 25]])),
    ("polygon-crossing", POLYGON, in_annotation(POLYGON, segmentation=[[10, 10, 30, 25, 30, 10, 10, 25]])),
    ("polygon-empty", POLYGON, in_annotation(POLYGON, segmentation=[[10, 10, 20, 17.5, 30, 25]])),
    ("polygon-unreadable", POLYGON, in_annotation(POLYGON, segmentation=[[10, NAN, 30, 10, 30, 25]])),
    ("mask-unreadable", POLYGON, in_annotation(POLYGON, segmentation=[[10, "10", 30, 10, 30, 25]])),
    ("mask-unreadable", POLYGON, in_annotation(POLYGON, segmentation=[10, 10, 30, 10, 30, 25])),
    ("mask-unreadable", POLYGON, in_annotation(POLYGON, segmentation="10 10 30 10 30 25")),
    ("mask-box-disagree", POLYGON, in_annotation(POLYGON, bbox=[22, 20, 20, 15])),
    ("mask-box-disagree", POLYGON, in_annotation(POLYGON, bbox=[0.15, 0.2, 0.3, 0.3])),  # fractions of the image
    ("mask-box-disagree", RUNS, in_annotation(RUNS, bbox=[5, 20, 12, 8])),
    ("rle-size", RUNS, in_annotation(RUNS, segmentation=run_length_mask(35, 20, 47, 28, (50, 70)))),
    ("rle-size", RUNS, in_annotation(RUNS, segmentation={**run_length_mask(35, 20, 47, 28), "size": [64, 48]})),
    ("mask-empty", RUNS, in_annotation(RUNS, segmentation=run_length_mask(0, 0, 0, 0))),
    ("mask-empty", RUNS, in_annotation(RUNS, segmentation={"size": [48, 64], "counts": [48 * 64]})),
    ("mask-unreadable", RUNS, in_annotation(RUNS, segmentation={"size": [48, 64], "counts": "!"})),
    ("mask-unreadable", RUNS, in_annotation(RUNS, segmentation={"size": [48, 64], "counts": [5, 5]})),
    ("mask-unreadable", RUNS, in_annotation(RUNS, segmentation={"counts": [5, 5]})),
    ("keypoint-count", POINTS, in_annotation(POINTS, keypoints=[20, 6, 2, 8, 30, 1])),
    ("keypoints-unreadable", POINTS, in_annotation(POINTS, keypoints=[20, 6, 2, 8, 30, 1, 0, 0])),
    ("keypoints-unreadable", POINTS, in_annotation(POINTS, keypoints=[20, "6", 2, 8, 30, 1, 0, 0, 0])),
    ("keypoints-unreadable", POINTS, in_annotation(POINTS, keypoints=[20, NAN, 2, 8, 30, 1, 0, 0, 0])),
    ("keypoint-visibility", POINTS, in_annotation(POINTS, keypoints=[20, 6, 3, 8, 30, 1, 0, 0, 0])),
    ("keypoint-outside", POINTS, in_annotation(POINTS, keypoints=[20, 6, 2, 80, 30, 1, 0, 0, 0])),
    ("keypoints-none-labelled", POINTS, in_annotation(POINTS, keypoints=[0] * 9)),
    ("crowd-unreadable", BOX, in_annotation(BOX, iscrowd=2)),
    ("image-unknown", BOX, in_annotation(BOX, image_id=99)),
    ("class-unknown", BOX, in_annotation(BOX, category_id=99)),
    ("class-unknown", BOX, in_annotation(BOX, category_id="bolt")),
    ("duplicate-annotation-id", POLYGON, in_annotation(BOX, id=11)),
]

# kind, file, id, damage to the content of train.json
OF_THE_FILE = [
    ("duplicate-object", TRAIN, "annotation 16", one_more("annotations", BOX, id=16)),
    ("duplicate-object", TRAIN, "annotation 16", one_more("annotations", POLYGON, id=16)),
    ("duplicate-image-id", TRAIN, "image 1", in_list("images", 2, id=1)),
    ("duplicate-category-id", TRAIN, "category 2", one_more("categories", 0, id=2, name="washer")),
    ("duplicate-class-name", TRAIN, "class bolt", one_more("categories", 0, id=4)),
    ("image-listed-twice", TRAIN, "image 9", one_more("images", 0, id=9)),
    ("class-unused", TRAIN, "class washer", one_more("categories", 0, id=4, name="washer")),
    ("class-without-name", TRAIN, None, in_list("categories", 0, name=" ")),
    ("class-names-alike", TRAIN, "class Bolt", in_list("categories", 0, name="Bolt")),  # val.json has bolt
    ("class-names-alike", TRAIN, "class bolts", in_list("categories", 0, name="bolts")),
    ("class-unreadable", TRAIN, "category 1", in_list("categories", 0, name=7)),
    ("field-missing", TRAIN, "category 1", without("categories", 0, "name")),
    ("field-missing", TRAIN, "image number 2", without("images", 1, "id")),
    ("field-missing", TRAIN, "annotation number 2", without("annotations", 1, "id")),
    ("entry-unreadable", TRAIN, "annotation number 6", lambda content: content["annotations"].append("x")),
    ("id-unreadable", TRAIN, "annotation number 1", in_list("annotations", 0, id=[1])),
    ("image-missing", TRAIN, "image 3", in_list("images", 2, file_name="nowhere.jpg")),
    ("image-missing", TRAIN, "image 3", in_list("images", 2, file_name=5)),
    ("image-outside", TRAIN, "image 3", in_list("images", 2, file_name="/etc/passwd")),
    ("image-outside", TRAIN, "image 3", in_list("images", 2, file_name="../../../nowhere/c.png")),
    ("size-unreadable", TRAIN, "image 3", in_list("images", 2, width=0)),
    ("size-unreadable", TRAIN, "image 3", in_list("images", 2, height="48")),
    ("image-size", TRAIN, "image 3", in_list("images", 2, width=80)),
    ("image-size", TRAIN, "image 3", in_list("images", 2, width=48, height=64)),
    ("keypoints-unreadable", TRAIN, "category 3", in_list("categories", 2, keypoints="tip")),
    ("duplicate-keypoint-name", TRAIN, "class hand", in_list("categories", 2, keypoints=["tip", "tip", "end"])),
    ("flip-pair-missing", TRAIN, "class hand", in_list("categories", 2, keypoints=["tip", "left_side", "end"])),
    ("skeleton-unreadable", TRAIN, "category 3", in_list("categories", 2, skeleton=[[1, 9]])),
    ("skeleton-edge", TRAIN, "class hand", in_list("categories", 2, skeleton=[[2, 2]])),
    ("part-unreadable", "train", None, lambda content: content.update(images={})),
]


def replace_by(make):
    """A damage that writes another file in the place of one of `images/`."""

    def damage(root: Path, name: str) -> None:
        path = root / "images" / name
        path.unlink()
        make(path)

    return damage


def cut(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def save_as(**options):
    """Draw the usual picture with options of Pillow's `save`."""

    def make(path: Path) -> None:
        draw_picture(path, 77)
        Image.open(path).copy().save(path, **options)

    return replace_by(make)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def write_huge(path: Path) -> None:
    """A PNG that says to have 20000 x 20000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def float_picture(path: Path) -> None:
    Image.fromarray(np.ones((48, 64), np.float32)).save(path, format="TIFF")


def link_outside(root: Path, name: str) -> None:
    draw_picture(root.parent / "elsewhere.jpg", 78)
    (root / "images" / name).unlink()
    os.symlink(root.parent / "elsewhere.jpg", root / "images" / name)


# kind, file, name of the image that is damaged, damage
OF_AN_IMAGE = [
    ("image-missing", TRAIN, "a.png", lambda root, name: (root / "images" / name).unlink()),
    ("image-unlisted", "images/more.jpg", "more.jpg", lambda root, name: draw_picture(root / "images" / name, 79)),
    ("image-truncated", "images/c.jpg", "c.jpg", lambda root, name: cut(root / "images" / name, 0.8)),
    ("image-truncated", "images/a.png", "a.png", lambda root, name: cut(root / "images" / name, 0.8)),
    ("image-unreadable", "images/c.jpg", "c.jpg", lambda root, name: cut(root / "images" / name, 0.0)),
    ("image-unreadable", "images/c.jpg", "c.jpg", lambda root, name: cut(root / "images" / name, 0.02)),
    ("image-unreadable", "images/c.jpg", "c.jpg", replace_by(lambda path: path.write_text("<html>404</html>"))),
    ("image-unsupported", "images/c.jpg", "c.jpg", replace_by(float_picture)),
    ("image-too-large", "images/c.jpg", "c.jpg", replace_by(write_huge)),
    ("image-size", TRAIN, "c.jpg", replace_by(lambda path: draw_picture(path, 80, (32, 24)))),
    ("image-thin", "images/c.jpg", "c.jpg", replace_by(lambda path: draw_picture(path, 80, (603, 3)))),
    ("image-size-exif", TRAIN, "c.jpg", save_as(exif=turned())),
    ("image-outside", TRAIN, "c.jpg", link_outside),
    (
        "image-in-two-splits",
        "annotations/val.json",
        "f.jpg",
        replace_by(lambda path: path.write_bytes((path.parent / "c.jpg").read_bytes())),
    ),
    (
        "duplicate-image",
        TRAIN,
        "c.jpg",
        replace_by(lambda path: path.write_bytes((path.parent / "b.jpg").read_bytes())),
    ),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return write_clean(tmp_path_factory.mktemp("good"))


@pytest.fixture
def root(tmp_path, good) -> Path:
    return Path(shutil.copytree(good, tmp_path / "data"))


def damage_train(root: Path, damage) -> None:
    content = json.loads((root / TRAIN).read_text())
    damage(content)
    write_json(root / TRAIN, content)


def found_at(root: Path, kind: str, file: str, id: str | None) -> list:
    """Check; the problem is there, with an advice; repair it, and nothing of what is repaired is left."""
    before = bytes_of(root)
    checked = check(str(root))
    places = [(problem.kind, problem.file, problem.id) for problem in checked.problems]
    assert (kind, file, id) in places
    assert all(len(problem.advice) > 10 for problem in checked.problems)
    out = root.parent / "repaired"
    repaired = write_repaired(checked, out)
    left = {problem.kind for problem in check(str(out), images=str(repaired.images)).problems}
    assert not left & REPAIRED
    assert (kind in REPAIRED) <= bool(repaired.changes)
    assert bytes_of(root) == before
    return checked.problems


def test_nothing_is_reported_of_good_data(root, tmp_path):
    checked = check(str(root))
    assert checked.problems == []
    assert list(checked.parts) == ["train", "val"]
    repaired = write_repaired(checked, tmp_path / "repaired")
    assert repaired.changes == []
    assert check(str(tmp_path / "repaired"), images=str(repaired.images)).problems == []


def test_there_are_at_least_forty_kinds():
    assert len({row[0] for row in [*OF_AN_OBJECT, *OF_THE_FILE, *OF_AN_IMAGE]}) >= 40


@pytest.mark.parametrize(("kind", "position", "damage"), OF_AN_OBJECT)
def test_damaged_objects(root, kind, position, damage):
    damage_train(root, damage)
    id = f"annotation {position + 11}"
    assert {problem.id for problem in found_at(root, kind, TRAIN, id)} == {id}


@pytest.mark.parametrize(("kind", "file", "id", "damage"), OF_THE_FILE)
def test_damaged_annotation_files(root, kind, file, id, damage):
    damage_train(root, damage)
    found_at(root, kind, file, id)


@pytest.mark.parametrize(("kind", "file", "name", "damage"), OF_AN_IMAGE)
def test_damaged_images(root, kind, file, name, damage):
    damage(root, name)
    ids = {"a.png": "image 1", "c.jpg": "image 3", "f.jpg": "image 6"}
    found = found_at(root, kind, file, ids[name] if file.endswith(".json") else None)
    assert all(problem.image in (None, f"images/{name}") for problem in found if problem.kind == kind)


def test_an_image_200_times_as_long_as_wide_is_not_too_thin(root):
    draw_picture(root / "images" / "c.jpg", 80, (600, 3))
    assert "image-thin" not in {problem.kind for problem in check(str(root)).problems}


def test_the_same_file_in_training_and_validation(root):
    damage_train(root, in_list("images", 2, file_name="f.jpg"))
    found_at(root, "image-in-two-splits", "annotations/val.json", "image 6")


def test_a_class_that_is_only_evaluated(root):
    damage_train(root, lambda content: content["annotations"].pop(POINTS))
    found = found_at(root, "class-not-trained", "annotations/val.json", "class hand")
    assert {problem.kind for problem in found} == {"class-not-trained"}


def test_no_objects_at_all(root):
    (root / "annotations" / "val.json").unlink()
    damage_train(root, lambda content: content["annotations"].clear())
    found_at(root, "no-objects", TRAIN, None)


@pytest.mark.parametrize("text", [b"", b'{"images": [', b"[]", b"\xff\xfe\x00", b'{"images": 3, "annotations": [], '])
def test_what_cannot_be_read_at_all(tmp_path, text):
    (tmp_path / "train.json").write_bytes(text)
    with pytest.raises(UserError):
        check(str(tmp_path))
