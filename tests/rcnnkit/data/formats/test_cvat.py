"""CVAT for images: every kind of shape, labels and skeletons, subsets, several tasks, and damaged files."""

import math

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats.cvat import CvatReader
from rcnnkit.data.labelled import ProblemLog, Skeleton
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

# A skeleton as CVAT describes it: the drawing names its points in another order than the labels have.
SVG = (
    '&lt;line data-type="edge" data-node-from="2" data-node-to="1"&gt;&lt;/line&gt;'
    '&lt;line data-type="edge" data-node-from="1" data-node-to="3"&gt;&lt;/line&gt;'
    '&lt;circle data-node-id="1" data-label-name="neck"&gt;&lt;/circle&gt;'
    '&lt;circle data-node-id="2" data-label-name="nose"&gt;&lt;/circle&gt;'
    '&lt;circle data-node-id="3" data-label-name="tail"&gt;&lt;/circle&gt;'
)
POINTS = "".join(f"<label><name>{name}</name><parent>mouse</parent></label>" for name in ("nose", "neck", "tail"))
LABELS = (
    "<label><name>dog</name></label><label><name>never used</name></label>"
    f"<label><name>mouse</name><type>skeleton</type><svg>{SVG}</svg></label>{POINTS}"
)
DOG = '<box label="dog" xtl="1.5" ytl="2" xbr="11.5" ybr="8"/>'


def task(*shapes, labels=LABELS, image='<image id="7" name="a.png" width="20" height="10">'):
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    return (
        f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}{image}{"".join(shapes)}</image></annotations>'
    )


@pytest.fixture
def file(tmp_path):
    """Where the XML goes; its one image is there."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "a.png")
    return tmp_path / "annotations.xml"


def read(path, split=None):
    problems = ProblemLog()
    return CvatReader().read(Tree(path), split, problems), problems


def read_shapes(file, *shapes, **options):
    """(annotations of the one image, the data, the problems)."""
    file.write_text(task(*shapes, **options))
    data, problems = read(file.parent)
    return data.records[0]["annotations"], data, problems


def test_box(file):
    annotations, data, problems = read_shapes(file, DOG)
    expected = {"category_id": 0, "bbox": [1.5, 2, 11.5, 8], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    assert annotations == [expected] and len(problems) == 0
    assert data.classes == ["dog", "never used", "mouse"] and data.files == [file]
    record = {key: value for key, value in data.records[0].items() if key != "annotations"}
    assert record == {"file_name": str(file.parent / "images" / "a.png"), "height": 10, "width": 20, "image_id": 7}


def test_a_turned_box_has_the_upright_box_around_it(file):
    # Width 10 and height 6 around (6.5, 5), by 90 degrees: width 6, height 10.
    annotations, _, _ = read_shapes(file, DOG.replace("/>", ' rotation="90.0"/>'))
    assert annotations[0]["bbox"] == pytest.approx([3.5, 0, 9.5, 10]) and "segmentation" not in annotations[0]


def test_polygon_and_ellipse(file):
    annotations, _, _ = read_shapes(
        file,
        '<polygon label="dog" points="1,2;9.5,2;4,8"/>',
        '<ellipse label="dog" cx="10" cy="5" rx="4" ry="2" rotation="90"/>',
    )
    polygon, ellipse = annotations
    assert polygon["segmentation"] == [[1, 2, 9.5, 2, 4, 8]] and polygon["bbox"] == [1, 2, 9.5, 8]
    assert ellipse["bbox"] == pytest.approx([8, 1, 12, 9])
    x, y = np.array(ellipse["segmentation"][0]).reshape(-1, 2).T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(math.pi * 8, rel=0.03)


def test_polygons_of_a_group_are_one_object_with_holes_in_sight(file):
    annotations, _, _ = read_shapes(
        file,
        '<polygon label="dog" group_id="1" points="1,2;3,2;3,4"/>',
        '<polygon label="dog" group_id="2" points="0,0;1,0;1,1"/>',
        '<polygon label="dog" group_id="1" points="8,1;9,1;9,3"><attribute name="is_crowd">1</attribute></polygon>',
        '<polygon label="dog" points="0,0;1,0;1,1"/>',
        '<polygon label="dog" points="0,0;1,0;1,1"><attribute name="is_crowd">true</attribute></polygon>',
    )
    assert [len(annotation["segmentation"]) for annotation in annotations] == [2, 1, 1, 1]
    assert annotations[0]["bbox"] == [1, 1, 9, 4]
    assert [annotation["iscrowd"] for annotation in annotations] == [0, 0, 0, 1]


def test_mask_runs_over_the_rows_of_its_box(file):
    # 3 x 2 pixels at (4, 5): a row of background, foreground, foreground; a row of foreground, background, background.
    mask = '<mask label="dog" rle="1, 3, 2" left="4" top="5" width="3" height="2"/>'
    annotations, _, problems = read_shapes(file, mask)
    expected = np.zeros((10, 20), dtype=np.uint8)
    expected[5, 5:7] = expected[6, 4] = 1
    np.testing.assert_array_equal(mask_util.decode(annotations[0]["segmentation"]), expected)
    assert annotations[0]["segmentation"]["size"] == [10, 20] and annotations[0]["bbox"] == [4, 5, 7, 7]
    assert isinstance(annotations[0]["segmentation"]["counts"], str) and len(problems) == 0


def test_skeleton(file):
    annotations, data, problems = read_shapes(
        file,
        '<skeleton label="mouse"><points label="tail" outside="0" occluded="1" points="12,9"/>'
        '<points label="nose" outside="0" occluded="0" points="2,3.5"/>'
        '<points label="neck" outside="1" occluded="0" points="99,99"/></skeleton>',
    )
    assert annotations[0]["keypoints"] == [2, 3.5, 2, 0, 0, 0, 12, 9, 1] and len(problems) == 0
    assert annotations[0]["bbox"] == [2, 3.5, 12, 9]
    assert data.skeletons == {2: Skeleton(("nose", "neck", "tail"), ((0, 1), (1, 2)))}


def test_points_without_names(file):
    annotations, data, problems = read_shapes(
        file,
        '<points label="dog" points="1,2;3,4" occluded="0"/>',
        '<points label="dog" points="5,6;7,8" occluded="1"/>',
        '<points label="dog" points="5,6;7,8;9,9"/>',
        '<points label="dog" points="5,6"/>',
    )
    assert [annotation["keypoints"] for annotation in annotations] == [[1, 2, 2, 3, 4, 2], [5, 6, 1, 7, 8, 1]]
    assert data.skeletons[0] == Skeleton(("point 1", "point 2"))
    assert [(p.kind, p.id) for p in problems] == [("keypoint-count", "image 7, shape 3"), ("shape-unused", None)]


def test_what_is_no_object_is_counted(file):
    line = '<polyline label="dog" points="1,2;3,4"/>'
    annotations, _, problems = read_shapes(file, line, line, '<tag label="dog"/>', DOG)
    assert len(annotations) == 1
    assert [(p.kind, p.value, p.severity) for p in problems] == [
        ("shape-unused", "'polyline'", "warning"),
        ("shape-unused", "'tag'", "warning"),
    ]
    assert "2 left out" in next(iter(problems)).advice


@pytest.mark.parametrize(
    ("shape", "kind", "field"),
    [
        (DOG.replace("1.5", "x"), "shape-unreadable", "xtl"),
        (DOG.replace('xtl="1.5"', ""), "shape-unreadable", "xtl"),
        (DOG.replace("/>", ' rotation="inf"/>'), "shape-unreadable", "rotation"),
        (DOG.replace("dog", "cat"), "class-unknown", "label"),
        (DOG.replace("dog", "nose"), "class-unknown", "label"),  # a point of the skeleton is no class
        (DOG.replace('label="dog"', ""), "class-unknown", "label"),
        ('<polygon label="dog" points="1,2;3"/>', "shape-unreadable", "points"),
        ('<polygon label="dog" points=""/>', "shape-unreadable", "points"),
        ('<mask label="dog" rle="1,x" left="4" top="5" width="3" height="2"/>', "mask-unreadable", "rle"),
        ('<mask label="dog" rle="1,2" left="4" top="5" width="3" height="2"/>', "mask-unreadable", "rle"),
        ('<mask label="dog" rle="-1,7" left="4" top="5" width="3" height="2"/>', "mask-unreadable", "rle"),
        ('<mask label="dog" rle="9" left="4" top="5" width="-3" height="-3"/>', "mask-outside", None),
        ('<mask label="dog" rle="6" left="18" top="5" width="3" height="2"/>', "mask-outside", None),
        ('<mask label="dog" rle="6" left="nan" top="5" width="3" height="2"/>', "shape-unreadable", "left"),
        ('<mask label="dog" rle="6" left="inf" top="5" width="3" height="2"/>', "shape-unreadable", "left"),
        ('<skeleton label="mouse"/>', "keypoints-none-labelled", "points"),
        ('<skeleton label="mouse"><points label="wing" points="1,1"/></skeleton>', "keypoint-unknown", "points"),
        ('<skeleton label="mouse"><points label="nose"/></skeleton>', "shape-unreadable", "points"),
    ],
)
def test_a_shape_that_cannot_be_read_is_named_and_left_out(file, shape, kind, field):
    annotations, _, problems = read_shapes(file, DOG, shape, DOG)
    assert len(annotations) == 2
    assert [(p.kind, p.file, p.id) for p in problems] == [(kind, "annotations.xml", "image 7, shape 2")]
    assert field in (None, next(iter(problems)).field)


@pytest.mark.parametrize("value", ["nan", "inf", "-1e30"])
def test_impossible_numbers_are_kept_for_the_check(file, value):
    shapes = (DOG.replace('"1.5"', f'"{value}"'), f'<polygon label="dog" points="{value},2;3,4;5,6"/>')
    annotations, _, problems = read_shapes(file, *shapes)
    assert str(annotations[0]["bbox"][0]) == str(annotations[1]["segmentation"][0][0]) == str(float(value))
    assert len(problems) == 0


@pytest.mark.parametrize("size", ["", 'width="0" height="10"', f'width="{"9" * 5000}" height="10"'])
def test_size_of_the_image_where_the_file_has_none(file, size):
    _, data, _ = read_shapes(file, DOG, image=f'<image id="7" name="a.png" {size}>')
    assert (data.records[0]["width"], data.records[0]["height"]) == (20, 10)


def test_a_mask_of_an_absurd_image_is_refused(file):
    mask = '<mask label="dog" rle="1" left="4" top="5" width="1" height="1"/>'
    image = '<image id="7" name="a.png" width="900000000" height="900000000">'
    annotations, _, problems = read_shapes(file, mask, image=image)
    assert annotations == [] and [p.kind for p in problems] == ["mask-outside"]


def test_without_a_list_of_labels_those_of_the_shapes(file):
    _, data, problems = read_shapes(file, DOG.replace("dog", "cat"), DOG, labels="")
    assert data.classes == ["cat", "dog"] and len(problems) == 0


@pytest.mark.parametrize(
    ("name", "kind"), [("../a.png", "image-outside"), ("/etc/a.png", "image-outside"), ("b.png", "image-missing")]
)
def test_an_image_elsewhere_or_nowhere(file, name, kind):
    file.write_text(task(DOG, image=f'<image id="7" name="{name}" width="20" height="10">'))
    data, problems = read(file.parent)
    assert data.records == [] and [(p.kind, p.id, p.field) for p in problems] == [(kind, "7", "image")]


def test_an_id_twice(file):
    twice = task(DOG).replace("</annotations>", '<image id="7" name="a.png" width="20" height="10"/></annotations>')
    file.write_text(twice)
    data, problems = read(file.parent)
    assert len(data.records) == 1 and [(p.kind, p.value) for p in problems] == [("duplicate-image-id", "'7'")]


def test_subsets_of_a_project(file):
    for subset, width in (("Train", 30), ("Validation", 40)):
        (file.parent / "images" / subset).mkdir()
        Image.new("RGB", (width, 10)).save(file.parent / "images" / subset / "b.png")
    images = '<image id="0" name="b.png" subset="Train"/><image id="1" name="b.png" subset="Validation"/>'
    file.write_text(task(DOG).replace("</annotations>", f"{images}</annotations>"))
    assert CvatReader().splits(Tree(file.parent)) == ["Train", "Validation"]
    data, problems = read(file.parent, "Validation")
    assert len(problems) == 0 and [(record["image_id"], record["width"]) for record in data.records] == [(1, 40)]


def test_several_tasks_in_folders(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "images").mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(tmp_path / split / "images" / "a.png")
        label = f"<label><name>{split} label</name></label>"
        (tmp_path / split / "annotations.xml").write_text(task(labels=label + LABELS))
    assert CvatReader().splits(Tree(tmp_path)) == ["train", "val"]
    data, problems = read(tmp_path, "val")
    assert [record["file_name"] for record in data.records] == [str(tmp_path / "val" / "images" / "a.png")]
    assert data.classes == ["train label", "dog", "never used", "mouse", "val label"] and len(problems) == 0
    ids = [record["image_id"] for record in read(tmp_path)[0].records]
    assert ids == ["train/annotations.xml:7", "val/annotations.xml:7"]


def test_a_file_cut_off_keeps_what_comes_before(file):
    file.write_text(task(DOG).replace("</annotations>", '<image id="8" name="a.p'))
    data, problems = read(file.parent)
    assert data.num_annotations() == 1 and [(p.kind, p.severity) for p in problems] == [("file-unreadable", "error")]


def test_entities_are_refused(file):
    entities = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    bomb = task(DOG).replace("<annotations>", f'<!DOCTYPE x [<!ENTITY a "ha">{entities}]><annotations>&i;')
    file.write_text(bomb)
    assert CvatReader().recognise(Tree(file.parent)) is not None  # so that it is told what is wrong
    with pytest.raises(UserError, match=r"annotations\.xml: it declares XML entities"):
        read(file.parent)


def test_a_video_is_told_to_be_exported_as_images(file):
    track = '<track id="0" label="dog"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    file.write_text(f"<annotations><version>1.1</version>{track}</annotations>")
    assert CvatReader().recognise(Tree(file)) is not None
    with pytest.raises(UserError, match=r"export it as 'CVAT for images 1\.1'"):
        read(file)


def test_other_xml_is_not_cvat(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation><size/></annotation>")
    (tmp_path / "b.xml").write_text("<annotations><note/></annotations>")
    (tmp_path / "c.xml").write_text("no XML")
    assert CvatReader().recognise(Tree(tmp_path)) is None
