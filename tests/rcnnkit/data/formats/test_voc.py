"""Pascal VOC: real blood cells, VOC's folders and others, its counting of pixels, and damaged files."""

import time
from collections import Counter

import pytest
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats.voc import VocReader
from rcnnkit.data.labelled import ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

DOG = "<object><name>dog</name>{}<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>"


def picture(path, size=(20, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def annotation(path, *objects, filename="", size="<size><width>20</width><height>10</height></size>"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><filename>{filename or path.stem + '.png'}</filename>{size}{''.join(objects)}</annotation>"
    )


def box(xmin, ymin, xmax, ymax, name="dog"):
    corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    inner = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners.items())
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"


def read(path, split=None, images=None):
    problems = ProblemLog()
    return VocReader().read(Tree(path, images), split, problems), problems


@pytest.fixture
def flat(tmp_path):
    """One image, with its XML beside it to be written."""
    picture(tmp_path / "a.png")
    return tmp_path / "a.xml"


def test_blood_cells(real_data):
    started = time.perf_counter()
    data, problems = read(real_data / "bccd")
    assert time.perf_counter() - started < 5  # takes 0.2 s; a machine may be busy
    assert len(data.records) == 364 and len(problems) == 0
    assert data.classes == ["Platelets", "RBC", "WBC"] and data.skeletons == {}
    count = Counter(data.classes[a["category_id"]] for record in data.records for a in record["annotations"])
    assert count == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    flat = {
        (record["image_id"], *annotation["bbox"])
        for record in data.records
        for annotation in record["annotations"]
        if annotation["bbox"][0] == annotation["bbox"][2]
    }
    assert flat == {
        ("BloodImage_00338", 504.0, 337.0, 504.0, 337.0),
        ("BloodImage_00343", 181.0, 329.0, 181.0, 329.0),
    }


def test_blood_cells_in_splits(real_data):
    tree = Tree(real_data / "bccd")
    assert VocReader().splits(tree) == ["test", "train", "trainval", "val"]
    ids = {}
    for split, count in {"train": 205, "val": 87, "test": 72}.items():
        data, problems = read(real_data / "bccd", split)
        assert len(problems) == 0 and data.classes == ["Platelets", "RBC", "WBC"]
        ids[split] = {record["image_id"] for record in data.records}
        assert len(ids[split]) == len(data.files) == count
        listed = (real_data / "bccd" / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        assert ids[split] == set(listed)


def test_the_record_is_that_of_detectron2(flat):
    annotation(flat, DOG.format(""))
    data, problems = read(flat.parent)
    assert len(problems) == 0 and data.classes == ["dog"]
    # As Detectron2's load_voc_instances reads these numbers: counted from 1, the last pixel inside.
    expected = {"category_id": 0, "bbox": [0.0, 1.0, 20.0, 10.0], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    record = {"file_name": str(flat.parent / "a.png"), "height": 10, "width": 20, "image_id": "a"}
    assert data.records == [{**record, "annotations": [expected]}]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ((1, 1, 20, 10), [0, 0, 20, 10]),
        ((3.5, 2.25, 8, 9), [2.5, 1.25, 8, 9]),
        ((0, 3, 8, 9), [0, 2, 8, 9]),  # 0 is not counted from 1
        ((5, 5, 5, 5), [5, 5, 5, 5]),  # no area stays no area
        ((5, 2, 5, 9), [5, 1, 5, 9]),
        ((9, 2, 5, 9), [9, 1, 5, 9]),
        ((-3, 2, 5, 99), [-3, 1, 5, 99]),
    ],
)
def test_pixels_are_counted_from_one(flat, written, expected):
    annotation(flat, box(*written))
    data, problems = read(flat.parent)
    assert data.records[0]["annotations"][0]["bbox"] == expected and len(problems) == 0


def test_difficult_is_ignored_and_truncated_is_not(flat):
    annotation(
        flat, DOG.format("<difficult>1</difficult>"), DOG.format("<truncated>1</truncated><difficult>0</difficult>")
    )
    data, _ = read(flat.parent)
    assert [item.get("ignore", 0) for item in data.records[0]["annotations"]] == [1, 0]


def test_parts_of_an_object_are_not_objects(flat):
    annotation(flat, DOG.format("<part><name>head</name><bndbox><xmin>7</xmin></bndbox></part>"))
    data, problems = read(flat.parent)
    assert data.classes == ["dog"] and data.records[0]["annotations"][0]["bbox"] == [0, 1, 20, 10] and not len(problems)


def test_polygon(flat):
    corners = "<x1>2</x1><y1>3</y1><x2>12</x2><y2>3</y2><x3>7</x3><y3>9</y3>"
    annotation(flat, DOG.format(f"<polygon>{corners}</polygon>"), DOG.format("<polygon><x1>2</x1><y1>c</y1></polygon>"))
    data, problems = read(flat.parent)
    good, bad = data.records[0]["annotations"]
    assert good["segmentation"] == [[2, 3, 12, 3, 7, 9]] and "segmentation" not in bad
    assert [(p.kind, p.id) for p in problems] == [("polygon-unreadable", "object 2")]


@pytest.mark.parametrize(
    "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"]
)
def test_size_of_the_image_where_the_file_has_none(flat, size):
    annotation(flat, DOG.format(""), size=size)
    data, problems = read(flat.parent)
    assert (data.records[0]["width"], data.records[0]["height"]) == (20, 10) and len(problems) == 0


def test_an_image_without_objects_stays(flat):
    annotation(flat)
    data, problems = read(flat.parent)
    assert data.records[0]["annotations"] == [] and data.classes == [] and len(problems) == 0


def test_several_years_of_voc_and_lists_of_classes(tmp_path):
    for year, name in (("VOC2007", "000001"), ("VOC2007", "000002"), ("VOC2012", "2008_000001")):
        picture(tmp_path / year / "JPEGImages" / f"{name}.png")
        annotation(tmp_path / year / "Annotations" / f"{name}.xml", DOG.format(""))
    for year, lines in (("VOC2007", "000001\n"), ("VOC2012", "2008_000001\n")):
        lists = tmp_path / year / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text(lines)
        (lists / "dog_train.txt").write_text(lines.replace("\n", "  1\n"))
    (tmp_path / "VOC2007" / "ImageSets" / "Main" / "val.txt").write_text(
        "000002.png\n000002\n000009\n../../../etc/passwd\n"
    )
    assert VocReader().splits(Tree(tmp_path)) == ["train", "val"]
    train, problems = read(tmp_path, "train")
    assert [record["image_id"] for record in train.records] == ["000001", "2008_000001"] and len(problems) == 0
    val, problems = read(tmp_path, "val")
    assert [record["image_id"] for record in val.records] == ["000002"]
    assert [(p.kind, p.id, p.severity) for p in problems] == [
        ("image-listed-twice", "line 2", "warning"),
        ("annotation-missing", "line 3", "error"),
        ("annotation-missing", "line 4", "error"),
    ]
    assert list(problems)[1].file == "VOC2007/ImageSets/Main/val.txt"


def test_folders_as_splits_and_equal_names_in_them(tmp_path):
    for split, width in (("train", 20), ("valid", 30)):
        picture(tmp_path / split / "images" / "1.png", (width, 10))
        annotation(tmp_path / split / "annotations" / "1.xml", box(1, 1, 9, 9, split), size="")
    assert VocReader().splits(Tree(tmp_path)) == ["train", "valid"]
    data, problems = read(tmp_path, "valid")
    assert len(problems) == 0 and data.classes == ["train", "valid"]  # of the whole, so that numbers agree
    assert [(record["image_id"], record["width"]) for record in data.records] == [("valid/annotations/1", 30)]
    assert [annotation["category_id"] for annotation in data.records[0]["annotations"]] == [1]
    assert len(read(tmp_path)[0].records) == 2


def test_a_renamed_image_is_found_by_the_name_of_its_xml(flat):
    annotation(flat, filename="before.jpg")
    assert read(flat.parent)[0].records[0]["file_name"].endswith("/a.png")


def test_classes_in_the_order_of_the_label_map(flat):
    annotation(flat, box(1, 1, 2, 2, "bee"), box(1, 1, 3, 3, "ant"))
    (flat.parent / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,1,1::\nbee:2,2,2::\n"
    )
    assert read(flat.parent)[0].classes == ["cat", "bee", "ant"]


def test_one_file_alone(flat):
    annotation(flat, DOG.format(""))
    picture(flat.with_name("b.png"))
    annotation(flat.with_name("b.xml"), DOG.format(""))
    assert VocReader().recognise(Tree(flat)) is not None
    assert [record["image_id"] for record in read(flat)[0].records] == ["a"]


@pytest.mark.parametrize(
    ("content", "kind", "field"),
    [
        (box("1", "1", "x", "9"), "box-unreadable", "bndbox"),
        ("<object><name>dog</name></object>", "box-unreadable", "bndbox"),
        (box(1, 1, 9, 9, name=" "), "class-missing", "name"),
    ],
)
def test_an_object_that_cannot_be_read_is_named_and_left_out(flat, content, kind, field):
    annotation(flat, DOG.format(""), content)
    data, problems = read(flat.parent)
    assert [(p.kind, p.file, p.id, p.field) for p in problems] == [(kind, "a.xml", "object 2", field)]
    assert data.num_annotations() == 1 and data.classes == ["dog"]


@pytest.mark.parametrize("value", ["nan", "inf", "-1e30"])
def test_impossible_numbers_are_kept_for_the_check(flat, value):
    annotation(flat, box(value, 1, 9, 9))
    data, problems = read(flat.parent)
    assert str(data.records[0]["annotations"][0]["bbox"][0]) == str(float(value)) and len(problems) == 0


@pytest.mark.parametrize(
    ("filename", "kind"),
    [
        ("../a.png", "image-outside"),
        ("/etc/a.png", "image-outside"),
        ("C:\\pictures\\a.png", "image-outside"),
        ("nowhere.png", "image-missing"),
        ("x" * 5000, "image-missing"),
    ],
)
def test_an_image_elsewhere_or_nowhere(tmp_path, filename, kind):
    picture(tmp_path / "a.png")
    annotation(tmp_path / "set" / "b.xml", DOG.format(""), filename=filename)
    data, problems = read(tmp_path / "set")
    assert data.records == [] and [(p.kind, p.file, p.field) for p in problems] == [(kind, "b.xml", "image")]


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    picture(tmp_path / "secret.png")
    annotation(tmp_path / "set" / "a.xml", DOG.format(""))
    (tmp_path / "set" / "a.png").symlink_to(tmp_path / "secret.png")
    data, problems = read(tmp_path / "set")
    assert data.records == [] and [p.kind for p in problems] == ["image-outside"]


def test_an_image_that_is_none_has_no_size(flat):
    annotation(flat, DOG.format(""), size="")
    (flat.parent / "a.png").write_bytes(b"not a picture")
    data, problems = read(flat.parent)
    assert data.records == [] and [(p.kind, p.file) for p in problems] == [("image-unreadable", "a.png")]


ENTITIES = '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">'
BOMB = f'<?xml version="1.0"?><!DOCTYPE annotation [{ENTITIES}]><annotation><size/>&b;</annotation>'
OUTSIDE = '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><size/>&a;</annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "declares XML entities"),
        (OUTSIDE, "declares XML entities"),
        ("<annotation><size>", "cannot be read as XML"),
    ],
)
def test_a_file_that_is_refused(flat, content, message):
    flat.with_name("b.xml").write_text(content)
    annotation(flat, DOG.format(""))
    data, problems = read(flat.parent)
    assert len(data.records) == 1 and [(p.kind, p.file) for p in problems] == [("file-unreadable", "b.xml")]
    assert message in next(iter(problems)).advice
    flat.unlink()
    assert VocReader().recognise(Tree(flat.parent)) is not None  # so that it is told what is wrong
    with pytest.raises(UserError, match=message):
        read(flat.parent)


def test_other_xml_is_not_voc(tmp_path):
    for name, content in {
        "a.xml": "<annotations><version>1.1</version></annotations>",
        "b.xml": "<annotation><imagesize><nrows>3</nrows></imagesize><object><polygon/></object></annotation>",
        "c.xml": "no XML",
    }.items():
        (tmp_path / name).write_text(content)
        assert VocReader().recognise(Tree(tmp_path / name)) is None
    assert VocReader().recognise(Tree(tmp_path)) is None
