import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_voc_instances, register_pascal_voc
from detectron2.structures import BoxMode

XML = (
    "<annotation><size><width>9</width><height>6</height></size><object><name>cat</name><difficult>1</difficult>"
    "<bndbox><xmin>2</xmin><ymin>1</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def folder(tmp_path):
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_text("b\na 1\n\n")
    for image in "ab":
        (tmp_path / "Annotations" / f"{image}.xml").write_text(XML)
    return tmp_path


def test_records(folder):
    records = load_voc_instances(str(folder), "val", ["dog", "cat"])
    assert [record["image_id"] for record in records] == ["b", "a"]
    assert records[1] == {
        "file_name": str(folder / "JPEGImages" / "a.jpg"),
        "image_id": "a",
        "height": 6,
        "width": 9,
        # VOC's pixels 2 to 5 are the squares from 1 to 5
        "annotations": [{"category_id": 1, "bbox": [1.0, 0.0, 5.0, 6.0], "bbox_mode": BoxMode.XYXY_ABS}],
    }


def test_registration_reads_nothing(folder):
    register_pascal_voc("voc_reading", str(folder), "val", 2012)
    try:
        metadata = MetadataCatalog.get("voc_reading")
        assert (metadata.year, metadata.split, metadata.dirname) == (2012, "val", str(folder))
        assert metadata.thing_classes[7] == "cat"
        assert DatasetCatalog.get("voc_reading")[0]["annotations"][0]["category_id"] == 7
    finally:
        DatasetCatalog.remove("voc_reading")
        MetadataCatalog.remove("voc_reading")


ENTITY = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><size><width>&x;</width></size></annotation>'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (XML.replace("cat", "cart"), r"'cart', which is not among the class names \(nearest: \['cat'"),
        (XML[:40], "not whole XML"),
        (XML.replace("<width>9</width>", ""), "no <size/width>"),
        (XML.replace("<xmin>2<", "<xmin>two<"), "<bndbox/xmin> is 'two', not a number"),
        (ENTITY, "refused: XML with entities"),
    ],
)
def test_bad_files_are_named_in_one_line(folder, text, message):
    path = folder / "Annotations" / "a.xml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_voc_instances(str(folder), "val", ["dog", "cat"])
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_missing_files(folder):
    with pytest.raises(FileNotFoundError, match="the list of images"):
        load_voc_instances(str(folder), "train", ["cat"])
    (folder / "Annotations" / "a.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml"):
        load_voc_instances(str(folder), "val", ["cat"])


@pytest.mark.realdata
def test_blood_cells(real_data):
    records = load_voc_instances(str(real_data / "bccd"), "test", ["RBC", "WBC", "Platelets"])
    assert len(records) == 72
    # of stock Detectron2
    assert records[0]["image_id"] == "BloodImage_00007"
    assert records[0]["annotations"][0]["bbox"] == [192.0, 91.0, 387.0, 285.0]
