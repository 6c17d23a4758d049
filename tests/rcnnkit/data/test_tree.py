"""The files of a data set's folder: links that lead out of it are read by no reader, whatever the format."""

import json

import pytest

from rcnnkit.data.checks import check
from rcnnkit.data.entries import DataSource
from rcnnkit.data.parts import read_parts
from rcnnkit.data.registration import load
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError
from tests.rcnnkit.data.checked_data import draw_picture

_BOX = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
_VOC = f"<annotation><filename>%s.png</filename><object><name>cat</name>{_BOX}</object></annotation>"
_CVAT = (
    '<annotations><version>1.1</version><image id="%s" name="%s.png" width="64" height="48">'
    '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9"/></image></annotations>'
)
_COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
}
_SHAPE = {"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
_REGION = {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 9, "height": 9}, "region_attributes": {}}
_DLC = "scorer,me,me,me,me\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\n%s.png,5,5,20,20\n"
_OPEN = "ImageID,LabelName,XMin,XMax,YMin,YMax\n%s,cat,0.1,0.5,0.1,0.5\n"


def _labelme(name):
    return json.dumps({"version": "5", "imagePath": f"{name}.png", "shapes": [_SHAPE]})


def _via(name):
    return json.dumps({name: {"filename": f"{name}.png", "size": 1, "regions": [_REGION], "file_attributes": {}}})


# format → the files of a good folder, of which the last one becomes a link
FOLDERS = {
    "coco": {"a.json": json.dumps(_COCO), "b.json": json.dumps(_COCO)},
    "via": {"a.json": _via("a"), "b.json": _via("b")},
    "labelme": {"a.json": _labelme("a"), "b.json": _labelme("b")},
    "cvat": {"a.xml": _CVAT % (1, "a"), "b.xml": _CVAT % (2, "b")},
    "voc": {"a.xml": _VOC % "a", "b.xml": _VOC % "b"},
    "voc, its lists": {"a.xml": _VOC % "a", "b.xml": _VOC % "b", "ImageSets/Main/train.txt": "a"},
    "voc, its classes": {"a.xml": _VOC % "a", "b.xml": _VOC % "b", "labelmap.txt": "cat:::"},
    "deeplabcut": {"a/a.csv": _DLC % "a", "b/b.csv": _DLC % "b"},
    "deeplabcut, its project": {"a.csv": _DLC % "a", "config.yaml": "bodyparts: [tail, nose]"},
    "openimages": {"a.csv": _OPEN % "a", "b.csv": _OPEN % "b"},
    "openimages, its classes": {"a.csv": _OPEN % "a", "class-descriptions.csv": "cat,Cat"},
    "yolo": {"a.txt": "0 .5 .5 .2 .2", "b.txt": "0 .5 .5 .2 .2"},
    "yolo, its description": {"a.txt": "0 .5 .5 .2 .2", "data.yaml": "names: [cat]"},
}


def write_folder(root, files):
    for name in "ab":
        draw_picture(root / f"{name}.png", ord(name))
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def lead_out(path, outside):
    outside.mkdir(exist_ok=True)
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_link_out_of_the_folder_is_a_problem_and_not_read(tmp_path, name):
    root, files = tmp_path / "set", FOLDERS[name]
    write_folder(root, files)
    assert load("good", DataSource(str(root)), []).records
    link = list(files)[-1]
    lead_out(root / link, tmp_path / "outside")
    found = read_parts(str(root))
    assert ("file-outside", link) in {(problem.kind, problem.file) for problem in found.problems}
    assert all(file.resolve().is_relative_to(root) for data in found.parts.values() for file in data.files)
    assert ("file-outside", link) in {(problem.kind, problem.file) for problem in check(str(root)).problems}
    with pytest.raises(UserError, match="link out of the data set"):
        load("set", DataSource(str(root)), [])


def test_the_only_annotation_file_is_a_link_out(tmp_path):
    write_folder(tmp_path / "set", {"a.json": json.dumps(_COCO)})
    lead_out(tmp_path / "set/a.json", tmp_path / "outside")
    for path in ("set", "set/a.json"):
        with pytest.raises(UserError, match="is a link out of"):
            read_parts(str(tmp_path / path))


def test_links_within_the_folder_and_to_nothing(tmp_path):
    write_folder(tmp_path / "set", {"labels/all.json": json.dumps(_COCO)})
    (tmp_path / "set/again.json").symlink_to(tmp_path / "set/labels/all.json")
    (tmp_path / "set/gone.json").symlink_to(tmp_path / "set/never.json")
    (tmp_path / "set/loop.json").symlink_to(tmp_path / "set/loop.json")
    tree = Tree(tmp_path / "set")
    assert [tree.relative(path) for path in tree.files] == ["a.png", "again.json", "b.png", "labels/all.json"]
    assert tree.links_out == []
