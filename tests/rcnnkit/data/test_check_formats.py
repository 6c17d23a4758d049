"""Damage to the files of formats with one annotation file for each image: found, with file and line."""

import json
from pathlib import Path

import pytest

from rcnnkit.data.checks import check
from rcnnkit.data.checks.repair import REPAIRED
from rcnnkit.data.checks.repaired_files import write_repaired
from tests.rcnnkit.data.checked_data import HEIGHT, WIDTH, bytes_of, draw_picture

NAMES = ("a", "b", "c")


def write_yolo(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        draw_picture(root / "images" / "train" / f"{name}.jpg", seed)
        label = root / "labels" / "train" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.25\n1 0.25 0.25 0.125 0.25\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: bolt, 1: nut}\n")


def voc_object(name: str, *corners: float) -> str:
    tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))
    return f"<object><name>{name}</name><bndbox>{tags}</bndbox></object>"


def voc_file(name: str, *objects: str, width: int = WIDTH) -> str:
    size = f"<size><width>{width}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.jpg</filename>{size}{''.join(objects)}</annotation>"


def write_voc(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        draw_picture(root / "JPEGImages" / f"{name}.jpg", seed)
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(voc_file(name, voc_object("bolt", 10, 10, 30, 25), voc_object("nut", 35, 20, 47, 28)))


def labelme_file(name: str, **changes) -> str:
    shapes = [
        {"label": "bolt", "shape_type": "polygon", "points": [[10, 10], [30, 10], [30, 25]], "group_id": None},
        {"label": "nut", "shape_type": "rectangle", "points": [[35, 20], [47, 28]], "group_id": None},
    ]
    shapes[0].update(changes)
    content = {"version": "5.0.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg", "imageData": None}
    return json.dumps({**content, "imageHeight": HEIGHT, "imageWidth": WIDTH})


def write_labelme(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        draw_picture(root / f"{name}.jpg", seed)
        (root / f"{name}.json").write_text(labelme_file(name))


LABEL, XML, JSON = "labels/train/b.txt", "Annotations/b.xml", "b.json"
GOOD_LINE = "0 0.5 0.5 0.25 0.25\n1 0.25 0.25 0.125 0.25\n"
# format, file, its damaged text (None: deleted), kind, file and id of the problem
DAMAGE = [
    ("yolo", LABEL, "0 0.5 0.5 0.25 0\n1 0.25 0.25 0.125 0.25\n", "box-empty", LABEL, "line 1"),
    ("yolo", LABEL, "1 0.25 0.25 0.125 0.25\n0 0.5 0.5 -0.25 0.25\n", "box-negative", LABEL, "line 2"),
    ("yolo", LABEL, "0 1.5 0.5 0.25 0.25\n1 0.25 0.25 0.125 0.25\n", "box-outside", LABEL, "line 1"),
    ("yolo", LABEL, "0 32 24 16 12\n1 0.25 0.25 0.125 0.25\n", "box-outside", LABEL, "line 1"),  # pixels for fractions
    ("yolo", LABEL, "0 nan 0.5 0.25 0.25\n1 0.25 0.25 0.125 0.25\n", "box-not-finite", LABEL, "line 1"),
    ("yolo", LABEL, GOOD_LINE + "1 0.25 0.25 0.125 0.25\n", "duplicate-object", LABEL, "line 3"),
    ("yolo", LABEL, GOOD_LINE + "0 0.2 0.2 0.6 0.2 0.2 0.6 0.6 0.6\n", "polygon-crossing", LABEL, "line 3"),
    ("yolo", LABEL, GOOD_LINE + "7 0.5 0.5 0.25 0.25\n", "class-unknown", LABEL, "line 3"),
    ("yolo", LABEL, GOOD_LINE + "bolt 0.5 0.5 0.25 0.25\n", "label-line", LABEL, "line 3"),
    ("yolo", LABEL, GOOD_LINE + "0 0.5 0.5 0.25\n", "label-line", LABEL, "line 3"),
    ("yolo", LABEL, None, "label-missing", "images/train/b.jpg", None),
    ("yolo", "images/train/b.jpg", None, "label-without-image", LABEL, None),
    ("yolo", "images/train/b.jpg", "GIF", "image-unreadable", "images/train/b.jpg", None),
    ("voc", XML, voc_file("b", voc_object("bolt", 30, 10, 30, 25)), "box-empty", XML, "object 1"),
    ("voc", XML, voc_file("b", voc_object("bolt", 30, 10, 10, 25)), "box-negative", XML, "object 1"),
    ("voc", XML, voc_file("b", voc_object("bolt", 10, 10, 90, 25)), "box-outside", XML, "object 1"),
    ("voc", XML, voc_file("b", voc_object("nut", 10, 10, 20, "x")), "box-unreadable", XML, "object 1"),
    ("voc", XML, voc_file("b", voc_object("", 10, 10, 20, 25)), "class-missing", XML, "object 1"),
    ("voc", XML, voc_file("b", voc_object("bolts", 10, 10, 20, 25)), "class-names-alike", ".", "class bolts"),
    ("voc", XML, voc_file("b", voc_object("bolt", 10, 10, 20, 25), width=60), "image-size", XML, None),
    ("voc", XML, voc_file("b")[:60], "file-unreadable", XML, None),
    ("voc", XML, None, "image-unlisted", "JPEGImages/b.jpg", None),
    ("voc", "JPEGImages/b.jpg", None, "image-missing", XML, None),
    ("labelme", JSON, labelme_file("b", points=[[10, 10], [30, 25]]), "polygon-short", JSON, "shapes[0]"),
    ("labelme", JSON, labelme_file("b", points=[[10, 10], [90, 10], [30, 25]]), "polygon-outside", JSON, "shapes[0]"),
    ("labelme", JSON, labelme_file("b")[:80], "file-unreadable", JSON, None),
    ("labelme", "b.jpg", None, "image-missing", JSON, None),
]
WRITERS = {"yolo": write_yolo, "voc": write_voc, "labelme": write_labelme}


@pytest.mark.parametrize("data_format", WRITERS)
def test_nothing_is_reported_of_good_data(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    checked = check(str(tmp_path))
    assert checked.reader.name == data_format
    assert checked.problems == []
    (data,) = checked.parts.values()
    assert [len(record["annotations"]) for record in data.records] == [2, 2, 2]


@pytest.mark.parametrize(("data_format", "damaged", "text", "kind", "file", "id"), DAMAGE)
def test_damaged_files(tmp_path, data_format, damaged, text, kind, file, id):
    root = tmp_path / "data"
    WRITERS[data_format](root)
    if text is None:
        (root / damaged).unlink()
    else:
        (root / damaged).write_text(text)
    before = bytes_of(root)
    checked = check(str(root))
    assert checked.reader.name == data_format
    assert (kind, file, id) in [(problem.kind, problem.file, problem.id) for problem in checked.problems]
    repaired = write_repaired(checked, tmp_path / "repaired")
    assert (kind in REPAIRED) <= bool(repaired.changes)
    left = {problem.kind for problem in check(str(tmp_path / "repaired"), images=str(repaired.images)).problems}
    assert not left & REPAIRED
    assert bytes_of(root) == before
