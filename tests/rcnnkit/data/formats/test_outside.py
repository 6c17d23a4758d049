"""Every reader: what leads out of the data set's folder is refused, told, and not even opened."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnnkit.data.formats import READERS, reader_named
from rcnnkit.data.parts import read_parts
from rcnnkit.data.tree import Tree

SIZE = (20, 10)  # width, height of all images
BOX = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>8</xmax><ymax>8</ymax></bndbox>"
IDS = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"


def picture(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(SIZE[::-1], np.uint8)
    pixels[2:8, 2:8] = value
    Image.fromarray(pixels).save(path)
    return path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- one object in each image of these names, a file of every format


def coco(root: Path, names: list[str]) -> Path:
    images = [{"id": i, "file_name": name, "width": 20, "height": 10} for i, name in enumerate(names)]
    annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 6, 6]} for i in range(len(names))]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}]}
    return put(root / "coco.json", json.dumps(content))


def via(root: Path, names: list[str]) -> Path:
    shape = {"name": "rect", "x": 2, "y": 2, "width": 6, "height": 6}
    regions = [{"shape_attributes": shape, "region_attributes": {"class": "dog"}}]
    entries = {name: {"filename": name, "size": 1, "regions": regions, "file_attributes": {}} for name in names}
    return put(root / "via.json", json.dumps(entries))


def labelme(root: Path, names: list[str]) -> Path:
    shape = {"label": "dog", "shape_type": "rectangle", "points": [[2, 2], [8, 8]], "group_id": None}
    common = {"version": "5.4.1", "flags": {}, "shapes": [shape], "imageData": None, "imageHeight": 10}
    for number, name in enumerate(names):
        content = {**common, "imageWidth": 20, "imagePath": name}
        last = put(root / f"labels{number}.json", json.dumps(content))
    return last


def cvat(root: Path, names: list[str]) -> Path:
    box = '<box label="dog" xtl="2" ytl="2" xbr="8" ybr="8"/>'
    images = [f'<image id="{i}" name="{name}" width="20" height="10">{box}</image>' for i, name in enumerate(names)]
    return put(root / "cvat.xml", f"<annotations><version>1.1</version>{''.join(images)}</annotations>")


def voc(root: Path, names: list[str]) -> Path:
    size = "<size><width>20</width><height>10</height><depth>3</depth></size>"
    dog = f"<object><name>dog</name>{BOX}</object>"
    for number, name in enumerate(names):
        text = f"<annotation><filename>{name}</filename>{size}{dog}</annotation>"
        last = put(root / "Annotations" / f"labels{number}.xml", text)
    return last


def deeplabcut(root: Path, names: list[str]) -> Path:
    head = "scorer,Ann,Ann,Ann,Ann\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\n"
    return put(root / "CollectedData_Ann.csv", head + "".join(f"{name},2,2,8,8\n" for name in names))


def openimages(root: Path, names: list[str]) -> Path:
    return put(root / "boxes.csv", IDS + "".join(f"{name},x,dog,1,0.1,0.4,0.2,0.8,0,0,0,0,0\n" for name in names))


def yolo(root: Path, names: list[str]) -> Path:
    put(root / "data.yaml", "names: [dog]\ntrain: train.txt\n")
    put(root / "train.txt", "".join(f"{name}\n" for name in names))
    return put(root / "labels" / "a.txt", "0 0.25 0.5 0.3 0.6\n")


def masks(root: Path, names: list[str]) -> Path:
    for name in names:
        last = picture(root / Path(name).stem / "masks" / "1.png", 255)
    return last


FORMATS = {"coco": coco, "via": via, "labelme": labelme, "cvat": cvat, "voc": voc, "deeplabcut": deeplabcut,
           "openimages": openimages, "yolo": yolo, "masks": masks}  # fmt: skip
NAMING = [name for name in FORMATS if name != "masks"]  # the others: no file says which image is meant


def test_of_every_format_there_is_one():
    assert list(FORMATS) == list(READERS)


# --- what is opened

OPENED: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def _listen():
    """Every file that this process opens, by whatever library, while the list is watched (hooks cannot be removed)."""
    listening = [True]

    def hear(event: str, arguments: tuple) -> None:
        if listening and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            OPENED.append(os.path.realpath(os.fsdecode(arguments[0])))

    sys.addaudithook(hear)
    yield
    listening.clear()


class Folder:
    """A data set's folder with one good image, and another folder beside it, which is none of its business."""

    def __init__(self, base: Path, data_format: str):
        self.root, self.elsewhere, self.data_format = base / "set", base / "elsewhere", data_format
        self.images = self.root / ("a/images" if data_format == "masks" else "images")
        self.good = picture(self.images / "a.png")
        self.secret = picture(self.elsewhere / "b.png")

    def write(self, *names: str) -> Path:
        return FORMATS[self.data_format](self.root, list(names))

    def refused(self) -> list[str]:
        """Kinds of the problems. Nothing of the other folder is read: only the good image is in the data."""
        OPENED.clear()
        assert reader_named(self.data_format).recognise(Tree(self.root)) is not None
        found = read_parts(str(self.root), data_format=self.data_format)
        opened = list(OPENED)
        (data,) = found.parts.values()
        assert [record["file_name"] for record in data.records] == [str(self.good)]
        assert len(data.records[0]["annotations"]) == 1
        assert any(name.startswith(str(self.root)) for name in opened)
        assert not [name for name in opened if name.startswith(str(self.elsewhere))]
        return [problem.kind for problem in found.problems]


@pytest.fixture
def folder(tmp_path):
    return lambda data_format: Folder(tmp_path.resolve(), data_format)


@pytest.mark.parametrize("data_format", FORMATS)
def test_nothing_is_said_of_a_good_folder(folder, data_format):
    good = folder(data_format)
    good.write("a.png")
    assert good.refused() == []


@pytest.mark.parametrize("outside", ["/etc/b.png", "{elsewhere}/b.png", "C:\\b.png", "../elsewhere/b.png",
                                     "../../elsewhere/b.png", "a/../../../b.png", "..\\elsewhere\\b.png"])  # fmt: skip
@pytest.mark.parametrize("data_format", NAMING)
def test_names_that_lead_out(folder, data_format, outside):
    bad = folder(data_format)
    bad.write("a.png", outside.format(elsewhere=bad.elsewhere))
    assert bad.refused() == ["image-outside"]


@pytest.mark.parametrize("data_format", FORMATS)
def test_an_image_that_is_a_link_out(folder, data_format):
    bad = folder(data_format)
    bad.write("a.png", "b.png")
    link = bad.root / ("b/images/b.png" if data_format == "masks" else "images/b.png")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(bad.secret)
    assert bad.refused() == ["image-outside"]


@pytest.mark.parametrize("data_format", FORMATS)
def test_a_folder_of_images_that_is_a_link_out(folder, data_format):
    bad = folder(data_format)
    bad.write("a.png", *([] if data_format == "masks" else ["more/b.png"]))
    (bad.root / "more").symlink_to(bad.elsewhere, target_is_directory=True)
    assert bad.refused() == ([] if data_format == "masks" else ["image-outside"])


@pytest.mark.parametrize("data_format", FORMATS)
def test_an_annotation_file_that_is_a_link_out(folder, data_format):
    bad = folder(data_format)
    written = bad.write("a.png")
    if data_format == "yolo":  # a label belongs to an image
        picture(bad.images / "more.png")
        put(bad.root / "train.txt", "a.png\nmore.png\n")
    moved = bad.elsewhere / written.name
    moved.write_bytes(written.read_bytes())
    written.with_name(f"more{written.suffix}").symlink_to(moved)
    kinds = set(bad.refused())
    assert kinds and kinds <= {"file-outside", "label-outside", "image-outside"}
