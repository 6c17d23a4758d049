"""LabelMe: shapes as objects, groups, masks, image paths of another machine, and damage."""

import base64
import io
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats.labelme import LabelMeReader, ShapeError, shape_annotation
from rcnnkit.data.labelled import WARNING, ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

SQUARE = [[2, 3], [6, 3], [6, 7], [2, 7]]


def shape(kind="polygon", points=SQUARE, label="nut", **more):
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, **more}


def write(path, *shapes, image="a.png", size=(20, 10), **more):
    """A LabelMe file; and its image beside it, if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    content = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None}
    path.write_text(json.dumps({**content, "imageHeight": height, "imageWidth": width, **more}))
    picture = path.with_suffix(".png")
    if not picture.exists():
        Image.new("L", (20, 10)).save(picture)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=bool)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def read(path, split=None, images=None):
    problems = ProblemLog()
    return LabelMeReader().read(Tree(path, images), split, problems), problems


def annotations(tmp_path, *shapes):
    write(tmp_path / "a.json", *shapes)
    data, problems = read(tmp_path)
    assert len(problems) == 0
    return data.records[0]["annotations"]


def pixels_of(annotation):
    return mask_util.decode(annotation["segmentation"])


def test_real_files_whose_images_lie_elsewhere(real_data):
    data, problems = read(real_data / "formats/gts/labelme_format", images=real_data / "formats/images")
    assert len(data.records) == 100 and data.num_annotations() == 273 and len(problems) == 0
    _, problems = read(real_data / "formats/gts/labelme_format")  # imageData is not a picture of the data set
    assert {problem.kind for problem in problems} == {"image-missing"} and len(problems) == 100


def test_a_polygon_is_kept(tmp_path):
    (annotation,) = annotations(tmp_path, shape(points=[[2.5, 3], [6, 3.25], [6, 7]]))
    assert annotation["segmentation"] == [[2.5, 3, 6, 3.25, 6, 7]] and annotation["bbox"] == [2.5, 3, 6, 7]
    assert annotation["bbox_mode"] == BoxMode.XYXY_ABS and annotation["id"] == "shapes[0]"


def test_a_rectangle_is_a_box_whichever_corners_it_names(tmp_path):
    for points in ([[2, 7], [6, 3]], SQUARE):
        (annotation,) = annotations(tmp_path, shape("rectangle", points))
        assert annotation["bbox"] == [2, 3, 6, 7] and "segmentation" not in annotation


def test_a_circle_becomes_a_polygon(tmp_path):
    (annotation,) = annotations(tmp_path, shape("circle", [[10, 5], [13, 9]]))  # radius 5
    assert annotation["bbox"] == pytest.approx([5, 0, 15, 10])
    assert len(annotation["segmentation"][0]) >= 32


def test_a_mask_becomes_rle_of_the_image(tmp_path):
    (annotation,) = annotations(tmp_path, shape("mask", [[4, 2], [6, 3]], mask=png([[0, 1, 0], [0, 1, 1]])))
    whole = np.zeros((10, 20))
    whole[2, 5] = whole[3, 5] = whole[3, 6] = 1
    assert (pixels_of(annotation) == whole).all() and isinstance(annotation["segmentation"]["counts"], str)
    assert annotation["bbox"] == [5, 2, 7, 4]  # of the pixels, not of the rectangle that was stored


@pytest.mark.parametrize(
    ("points", "mask"),
    [
        ([[4, 2], [6, 3]], png([[1, 1], [1, 1]])),  # of another size
        ([[4, 2], [30, 3]], png(np.ones((2, 27)))),  # outside
        ([[4, 2], [6, 3]], png(np.zeros((2, 3)))),  # empty
        ([[4, 2], [6, 3]], "not base64"),
        ([[4, 2], [6, 3]], png(np.ones((2, 3)))[:60]),
        ([[4, 2], [6, 3]], None),
        ([[4, 2]], png(np.ones((2, 3)))),
        ([[4, float("inf")], [6, 3]], png(np.ones((2, 3)))),
    ],
)
def test_masks_that_are_none(points, mask):
    with pytest.raises(ShapeError) as error:
        shape_annotation(shape("mask", points, mask=mask), 20, 10)
    assert error.value.field in ("mask", "points")


def test_a_group_is_one_object(tmp_path):
    found = annotations(
        tmp_path,
        shape(group_id=1),
        shape(points=[[10, 1], [12, 1], [12, 4]], group_id=1),
        shape("rectangle", [[0, 0], [1, 1]], group_id=1, label="bolt"),  # another label: another object
        shape(),
        shape(),  # without a group each for itself
    )
    assert [a["id"] for a in found] == ["shapes[0]", "shapes[2]", "shapes[3]", "shapes[4]"]
    assert found[0]["bbox"] == [2, 1, 12, 7]
    assert found[0]["segmentation"] == [[2, 3, 6, 3, 6, 7, 2, 7], [10, 1, 12, 1, 12, 4]]


def test_a_group_with_a_mask_is_a_mask(tmp_path):
    mask = shape("mask", [[10, 5], [11, 6]], mask=png(np.ones((2, 2))), group_id="g")
    (annotation,) = annotations(tmp_path, shape(group_id="g"), mask)
    expected = np.zeros((10, 20))
    expected[3:7, 2:6] = expected[5:7, 10:12] = 1
    assert (pixels_of(annotation) == expected).all()
    assert annotation["bbox"] == [2, 3, 12, 7]


def test_sizes_and_polygons_beyond_all_measure_take_no_memory(tmp_path):
    mask = shape("mask", [[4, 2], [6, 3]], mask=png(np.ones((2, 3))), group_id=1)
    with pytest.raises(ShapeError, match="too large"):
        shape_annotation(mask, 10**9, 10**9)
    (annotation,) = annotations(tmp_path, mask, shape(points=[[0, 0], [1e300, 0], [5, 1e300]], group_id=1))
    assert pixels_of(annotation).sum() == 6 and annotation["bbox"] == [0, 0, 1e300, 1e300]


def test_points_and_lines_are_said_and_left_out(tmp_path):
    write(tmp_path / "a.json", shape("point", [[1, 1]]), shape("linestrip"), shape("star"), shape())
    data, problems = read(tmp_path)
    assert data.num_annotations() == 1
    assert [(p.kind, p.id, p.value, p.severity) for p in problems] == [
        ("shape-unused", f"shapes[{place}]", f"'{kind}'", WARNING)
        for place, kind in enumerate(("point", "linestrip", "star"))
    ]


def test_classes_in_the_order_of_labels_txt(tmp_path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nwalnut\nnut\n")
    write(tmp_path / "a.json", shape(), shape(label="almond"))
    assert read(tmp_path)[0].classes == ["walnut", "nut", "almond"]


def test_splits_are_folders(tmp_path):
    write(tmp_path / "train/a.json", shape())
    write(tmp_path / "val/a.json")
    assert LabelMeReader().splits(Tree(tmp_path)) == ["train", "val"]
    data, _ = read(tmp_path, "val")
    assert [(r["image_id"], r["annotations"]) for r in data.records] == [("val/a", [])]
    assert len(read(tmp_path)[0].records) == 2


@pytest.mark.parametrize(
    "image", ["a.png", "..\\photos\\a.png", "../../../photos/a.png", "C:\\photos\\a.png", "/photos/a.png", "x/a.jpg"]
)
def test_image_paths_of_another_machine_mean_the_image_beside(tmp_path, image):
    write(tmp_path / "set/deep/a.json", shape(), image=image)
    if image.endswith(".jpg"):
        (tmp_path / "set/deep/a.png").rename(tmp_path / "set/deep/a.jpg")
    data, problems = read(tmp_path / "set")
    assert len(problems) == 0 and len(data.records) == 1


def test_backslashes_within_the_folder(tmp_path):
    write(tmp_path / "json/b.json", shape(), image="..\\images\\a.png")
    (tmp_path / "images").mkdir()
    Image.new("L", (20, 10)).save(tmp_path / "images/a.png")
    data, problems = read(tmp_path)
    assert data.records[0]["file_name"] == str(tmp_path / "images/a.png") and len(problems) == 0


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("../../b.png", "image-outside"),
        ("/etc/b.png", "image-outside"),
        ("b.png", "image-missing"),
        ("", "image-missing"),
        (None, "image-missing"),
        (7, "image-missing"),
    ],
)
def test_images_that_are_not_there(tmp_path, image, kind):
    Image.new("L", (20, 10)).save(tmp_path / "b.png")
    write(tmp_path / "set/a.json", shape(), image=image)
    data, problems = read(tmp_path / "set")
    assert data.records == [] and [(p.kind, p.file) for p in problems] == [(kind, "a.json")]


def test_sizes_come_from_the_file_and_else_from_the_image(tmp_path):
    write(tmp_path / "a.json", size=(40, 30))
    record = read(tmp_path)[0].records[0]
    assert (record["width"], record["height"]) == (40, 30)  # that the image is of another size is for the check
    write(tmp_path / "a.json", size=(None, "10"))
    record = read(tmp_path)[0].records[0]
    assert (record["width"], record["height"]) == (20, 10)


def test_two_files_of_one_image(tmp_path):
    write(tmp_path / "a.json", shape())
    write(tmp_path / "b.json", shape(), image="a.png")
    data, problems = read(tmp_path)
    assert len(data.records) == 1 and [(p.kind, p.file) for p in problems] == [("image-listed-twice", "b.json")]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"shapes": [', "file-unreadable"),
        ("[" * 100000, "file-unreadable"),
        ('{"imagePath": "a.png"}', "shapes-missing"),
        ('{"imagePath": "a.png", "shapes": {"0": 1}}', "shapes-missing"),
    ],
)
def test_damaged_files(tmp_path, text, kind):
    write(tmp_path / "a.json", shape())
    (tmp_path / "b.json").write_text(text)
    (tmp_path / "c.json").write_text('{"learning_rate": 0.1}')
    data, problems = read(tmp_path)
    assert data.num_annotations() == 1 and [(p.kind, p.file) for p in problems] == [(kind, "b.json")]


def test_nothing_that_can_be_read(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": [')
    with pytest.raises(UserError, match="truncated"):
        read(tmp_path)


def test_links_out_of_the_folder_are_refused(tmp_path):
    write(tmp_path / "out/b.json", shape(), image="b.png")
    write(tmp_path / "set/a.json", shape())
    (tmp_path / "set/b.json").symlink_to(tmp_path / "out/b.json")
    write(tmp_path / "set/c.json", shape(), image="c.png")
    (tmp_path / "set/c.png").unlink()
    (tmp_path / "set/c.png").symlink_to(tmp_path / "out/b.png")
    data, problems = read(tmp_path / "set")
    assert len(data.records) == 1
    assert [(p.kind, p.file) for p in problems] == [("image-outside", "c.json")]


def test_recognition(tmp_path):
    assert LabelMeReader().recognise(Tree(tmp_path)) is None
    (tmp_path / "0.json").write_text('{"lr": 0.1}')
    assert LabelMeReader().recognise(Tree(tmp_path)) is None
    write(tmp_path / "a.json", shape(), imageData="A" * 200_000)
    assert "a.json" in LabelMeReader().recognise(Tree(tmp_path))
    assert "a.json" in LabelMeReader().recognise(Tree(tmp_path / "a.json"))
    assert LabelMeReader().recognise(Tree(tmp_path / "a.png")) is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["polygon", "rectangle", "circle", "mask", "point", "star"]) | JSON_VALUES
POINTS = st.lists(st.lists(st.floats() | st.integers(), min_size=2, max_size=2), max_size=5) | JSON_VALUES


@settings(max_examples=80, deadline=None)
@given(
    st.fixed_dictionaries(
        {"label": st.text(max_size=3) | JSON_VALUES, "shape_type": KINDS, "points": POINTS, "mask": JSON_VALUES}
    )
    | JSON_VALUES
)
@example({"label": "a", "points": [[1e308, -1e308], [-1e308, 1e308]], "shape_type": "circle"})
@example({"label": "a", "points": [[1, 2], [3, float("nan")]], "shape_type": "mask"})
def test_any_json_is_a_shape_or_a_shape_error(value):
    try:
        annotation = shape_annotation(value, 20, 10)
    except ShapeError as error:
        assert error.advice and error.field
    else:
        assert len(annotation["bbox"]) == 4


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(["shapes", "imagePath", "imageWidth", "imageHeight"]), JSON_VALUES))
def test_any_json_is_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    Image.new("L", (20, 10)).save(folder / "a.png")
    (folder / "a.json").write_text(json.dumps(content))
    try:
        read(folder)
    except UserError:
        assert not isinstance(content.get("shapes"), list)
