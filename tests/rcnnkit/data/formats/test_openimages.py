"""OpenImages CSV: fractions, names of classes, groups, splits, and damaged rows."""

import pytest
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats.openimages import OpenImagesReader
from rcnnkit.data.labelled import ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)
CAT = "a,xclick,/m/01yrx,1,0.25,0.75,0.1,0.5,0,0,0,0,0\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (200, 100)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


def read(path, split=None):
    problems = ProblemLog()
    return OpenImagesReader().read(Tree(path), split, problems), problems


def test_fractions_become_pixels_and_groups_crowds(folder):
    (folder / "boxes.csv").write_text(HEADER + CAT + "a.jpg,,/m/0bt9lr,1,0,1,0,1,0,0,1,0,0\n")
    data, problems = read(folder)
    assert len(problems) == 0 and data.classes == ["/m/01yrx", "/m/0bt9lr"]
    cat, dogs = (record["annotations"][0] for record in data.records)
    assert cat == {"id": 2, "category_id": 0, "bbox": [50, 10, 150, 50], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    assert dogs["iscrowd"] == 1 and dogs["bbox"] == [0, 0, 200, 100]


def test_names_of_classes_in_the_order_of_their_list(folder):
    (folder / "boxes.csv").write_text(
        HEADER + CAT + CAT.replace("/m/01yrx", "/m/0bt9lr") + CAT.replace("/m/01yrx", "Ant")
    )
    (folder / "class-descriptions-boxable.csv").write_text("/m/0bt9lr,Dog\n/m/0unused,Tree\n/m/01yrx,Cat\n")
    data, _ = read(folder)
    assert data.classes == ["Dog", "Cat", "Ant"]
    assert [annotation["category_id"] for annotation in data.records[0]["annotations"]] == [1, 0, 2]


def test_splits_by_the_names_of_the_files(folder):
    (folder / "oidv6-train-annotations-bbox.csv").write_text(HEADER + CAT)
    (folder / "validation-annotations-bbox.csv").write_text(HEADER + CAT.replace("a,", "b,").replace("01yrx", "00ant"))
    assert OpenImagesReader().splits(Tree(folder)) == ["train", "validation"]
    data, problems = read(folder, "train")
    assert len(problems) == 0 and [record["image_id"] for record in data.records] == ["a"]
    assert data.classes == ["/m/00ant", "/m/01yrx"]  # of all splits, so that numbers agree
    assert data.files == [folder / "oidv6-train-annotations-bbox.csv"]


def test_the_same_name_in_two_splits(folder):
    for split, width in (("train", 30), ("validation", 40)):
        (folder / split).mkdir()
        Image.new("RGB", (width, 10)).save(folder / split / "c.jpg")
        (folder / f"{split}-annotations-bbox.csv").write_text(HEADER + CAT.replace("a,", "c.jpg,"))
    data, problems = read(folder, "validation")
    assert len(problems) == 0 and [record["width"] for record in data.records] == [40]


@pytest.mark.parametrize(
    ("row", "kind", "field"),
    [
        (CAT.replace("0.25", "left"), "box-unreadable", "XMin, YMin, XMax, YMax"),
        ("a,,/m/01yrx\n", "box-unreadable", "XMin, YMin, XMax, YMax"),
        (CAT.replace("a,", " ,"), "row-incomplete", "ImageID"),
        (CAT.replace("/m/01yrx", ""), "row-incomplete", "LabelName"),
        (CAT.replace("a,", "nowhere,"), "image-missing", "image"),
        (CAT.replace("a,", "../a,"), "image-outside", "image"),
        (CAT.replace("a,", "/etc/a,"), "image-outside", "image"),
    ],
)
def test_a_damaged_row_is_named_and_left_out(folder, row, kind, field):
    (folder / "boxes.csv").write_text(HEADER + CAT + row + CAT)
    data, problems = read(folder)
    assert [(p.kind, p.file, p.id, p.field) for p in problems] == [(kind, "boxes.csv", "line 3", field)]
    assert data.num_annotations() == 2


def test_a_missing_image_is_told_once(folder):
    (folder / "boxes.csv").write_text(HEADER + CAT.replace("a,", "nowhere,") * 3)
    assert len(read(folder)[1]) == 1


def test_rows_cut_off_inside_a_field(folder):
    (folder / "boxes.csv").write_bytes((HEADER + CAT).encode() + b'b,,"/m/01yrx\xff')
    data, problems = read(folder)
    assert data.num_annotations() == 1 and [p.kind for p in problems] == ["box-unreadable"]


def test_other_csv_is_not_openimages(tmp_path):
    (tmp_path / "a.csv").write_text("scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\n")
    (tmp_path / "b.csv").write_text("ImageID,LabelName,MaskPath\n")
    (tmp_path / "c.csv").write_bytes(b"\xff\x00\n")
    (tmp_path / "d.csv").write_text("")
    assert OpenImagesReader().recognise(Tree(tmp_path)) is None
    with pytest.raises(UserError, match="no CSV file has the columns"):
        read(tmp_path)
