"""VIA: real balloons, the three versions, which attribute is the class, and damage."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats.via import RegionError, ViaReader, class_attribute, region_outline
from rcnnkit.data.formats.via_project import Region, images_of
from rcnnkit.data.labelled import WARNING, ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

RECT = {"name": "rect", "x": 2, "y": 3, "width": 4, "height": 5}
POLYGON = {"name": "polygon", "all_points_x": [1, 5, 5], "all_points_y": [2, 2, 8.5]}


def region(shape=RECT, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def write(path, content, *images):
    """A JSON file; and images of 20 × 10 pixels beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for name in images:
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 10)).save(path.parent / name)


def entry(*regions, name="a.png"):
    """One image as version 2 exports it."""
    return {f"{name}123": {"filename": name, "size": 123, "regions": list(regions), "file_attributes": {}}}


def read(path, split=None, images=None):
    problems = ProblemLog()
    return ViaReader().read(Tree(path, images), split, problems), problems


def annotations(tmp_path, *regions):
    write(tmp_path / "via.json", entry(*regions), "a.png")
    data, problems = read(tmp_path)
    assert len(problems) == 0
    return data, data.records[0]["annotations"]


# --- real data


def test_balloons(real_data):
    reader, tree = ViaReader(), Tree(real_data / "balloon")
    assert "one class" in reader.recognise(tree) and "'object'" in reader.recognise(tree)
    assert reader.splits(tree) == ["train", "val"]
    for split, images, objects in (("train", 48, 215), ("val", 13, 50)):
        data, problems = read(tree.root, split)
        assert (len(data.records), data.num_annotations(), len(problems)) == (images, objects, 0)
        assert data.classes == ["object"] and data.files == [tree.root / split / "via_region_data.json"]
        content = json.loads((tree.root / split / "via_region_data.json").read_text())
        for record, image in zip(data.records, content.values(), strict=True):
            with Image.open(record["file_name"]) as picture:
                assert picture.size == (record["width"], record["height"])
            for annotation, drawn in zip(record["annotations"], image["regions"].values(), strict=True):
                shape = drawn["shape_attributes"]
                assert annotation["segmentation"][0][0::2] == shape["all_points_x"]
                assert annotation["segmentation"][0][1::2] == shape["all_points_y"]
    data, _ = read(tree.root)
    assert len(data.records) == 61 and data.num_annotations() == 265


# --- shapes


def test_a_polygon_is_kept_and_a_polyline_is_closed(tmp_path):
    _, found = annotations(tmp_path, region(POLYGON), region({**POLYGON, "name": "polyline"}))
    for annotation in found:
        assert annotation["segmentation"] == [[1, 2, 5, 2, 5, 8.5]] and annotation["bbox"] == [1, 2, 5, 8.5]
        assert annotation["bbox_mode"] == BoxMode.XYXY_ABS
    assert [annotation["id"] for annotation in found] == ["a.png region 0", "a.png region 1"]


def test_a_rectangle_is_a_box():
    assert region_outline(RECT) == {"bbox": [2, 3, 6, 8]}


def test_round_shapes_become_polygons():
    circle = region_outline({"name": "circle", "cx": 10, "cy": 20, "r": 5})
    assert circle["bbox"] == pytest.approx([5, 15, 15, 25]) and len(circle["segmentation"][0]) >= 32
    turned = {"name": "ellipse", "cx": 10, "cy": 20, "rx": 8, "ry": 2, "theta": math.pi / 2}
    assert region_outline(turned)["bbox"] == pytest.approx([8, 12, 12, 28])
    del turned["theta"]  # as version 1 writes it
    assert region_outline(turned)["bbox"] == pytest.approx([2, 18, 18, 22])


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (None, "shape_attributes"),
        ({}, "shape_attributes"),
        ({"name": "point", "cx": 1, "cy": 2}, "name"),
        ({"name": "star"}, "name"),
        ({**RECT, "x": "2"}, "x"),
        ({**RECT, "height": None}, "height"),
        ({**POLYGON, "all_points_x": [1, 5]}, "all_points_x and all_points_y"),
        ({**POLYGON, "all_points_y": []}, "all_points_y"),
        ({**POLYGON, "all_points_x": [1, True, 3]}, "all_points_x"),
        ({"name": "circle", "cx": 1, "cy": 1}, "r"),
    ],
)
def test_shapes_that_are_none(shape, field):
    with pytest.raises(RegionError) as error:
        region_outline(shape)
    assert error.value.field == field


# --- classes


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ([{}, {}], None),
        ([{"quality": ""}], None),
        ([{"animal": "cat"}, {"animal": "dog"}], "animal"),
        ([{"id": "1", "Class": "cat"}, {"id": "2", "Class": "cat"}], "Class"),
        ([{"name": "tom", "label": "cat"}], "label"),  # the more telling one of two usual names
        ([{"animal": "cat", "note": "old"}, {"animal": "dog"}], "animal"),  # the one that most have
        ([{"breed": "a", "animal": "cat"}, {"breed": "b", "animal": "cat"}], "animal"),  # fewest values
        ([{"type": "x"}, {"animal": "cat"}, {"animal": "cat"}], "animal"),  # a usual name that few have
        ([{"animal": {"cat": True, "dog": False}}], "animal"),  # ticked boxes
        ([{"animal": {"cat": True, "dog": True}}], None),
    ],
)
def test_which_attribute_is_the_class(attributes, expected):
    assert class_attribute([Region(str(n), RECT, entry) for n, entry in enumerate(attributes)]) == expected


def test_classes_are_the_values_of_the_attribute(tmp_path):
    ticked = region(animal={"dog": True, "cat": False})
    data, found = annotations(tmp_path, region(animal="dog"), region(animal="cat "), ticked)
    assert data.classes == ["cat", "dog"] and [a["category_id"] for a in found] == [1, 0, 1]
    assert "'animal'" in ViaReader().recognise(Tree(tmp_path))


def test_a_region_without_its_class_is_a_problem(tmp_path):
    write(tmp_path / "via.json", entry(region(animal="dog"), region(), region({"name": "point"})), "a.png")
    data, problems = read(tmp_path)
    assert data.num_annotations() == 1
    assert [(p.kind, p.file, p.id, p.field) for p in problems] == [
        ("class-missing", "via.json", "a.png region 1", "animal"),
        ("shape-unused", "via.json", "a.png region 2", "name"),
    ]
    assert problems.problems[1].severity == WARNING


def test_all_splits_have_the_classes_of_all(tmp_path):
    for split, animal in (("train", "dog"), ("val", "cat")):
        write(tmp_path / split / "via.json", entry(region(animal=animal)), "a.png")
    assert read(tmp_path, "val")[0].classes == ["cat", "dog"]


# --- versions


def test_version_1_has_regions_in_a_dictionary(tmp_path):
    content = entry()
    content["a.png123"] |= {"regions": {"0": region(POLYGON), "1": region()}, "base64_img_data": "A" * 100_000}
    write(tmp_path / "via.json", content, "a.png")
    data, problems = read(tmp_path)
    assert data.num_annotations() == 2 and len(problems) == 0
    assert ViaReader().recognise(Tree(tmp_path)) is not None


def test_a_project_with_a_folder_of_images(tmp_path):
    settings_ = {"core": {"default_filepath": "photos/"}, "project": {"name": "x"}}
    content = {"_via_settings": settings_, "_via_img_metadata": entry(region()), "_via_attributes": {}}
    write(tmp_path / "project.json", content, "photos/a.png", "others/a.png")
    data, problems = read(tmp_path)
    assert data.records[0]["file_name"] == str(tmp_path / "photos/a.png") and len(problems) == 0
    content["_via_settings"]["core"]["default_filepath"] = "/home/someone/"
    (tmp_path / "others/a.png").unlink()
    write(tmp_path / "project.json", content)
    assert len(read(tmp_path)[0].records) == 1


def version_3():
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1", "vid_list": ["1", "2"]},
        "attribute": {"1": {"aname": "animal", "type": 3, "options": {"0": "cat", "1": "dog"}}},
        "file": {
            "1": {"fid": 1, "fname": "a.png", "type": 2, "loc": 1, "src": ""},
            "5": {"fid": 5, "fname": "b.png", "type": 2, "loc": 2, "src": "https://example.org/b.png"},
        },
        "view": {"1": {"fid_list": [1]}, "2": {"fid_list": [5]}},
        "metadata": {
            "1_a": {"vid": "1", "flg": 0, "z": [], "xy": [2, 2, 3, 4, 5], "av": {"1": "1"}},
            "1_b": {"vid": "2", "flg": 0, "z": [], "xy": [7, 1, 2, 5, 2, 5, 8], "av": {"1": "0"}},
            "1_c": {"vid": "2", "flg": 0, "z": [], "xy": [3, 10, 5, 2], "av": {"1": "0"}},
            "1_d": {"vid": "2", "flg": 0, "z": [], "xy": [8, 5, 0, 9, 3, 5, 6, 1, 3], "av": {"1": "0"}},
            "1_e": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"2": "sunny"}},
        },
    }


def test_version_3(tmp_path):
    write(tmp_path / "project.json", version_3(), "a.png", "b.png")
    data, problems = read(tmp_path)
    assert len(problems) == 0 and data.classes == ["cat", "dog"]
    a, b = (record["annotations"] for record in data.records)
    assert [(x["category_id"], x["bbox"]) for x in a] == [(1, [2, 3, 6, 8])]
    assert [x["bbox"] for x in b] == [[1, 2, 5, 8], pytest.approx([8, 3, 12, 7]), [1, 0, 9, 6]]
    assert b[0]["segmentation"] == [[1, 2, 5, 2, 5, 8]]


def test_version_3_damaged(tmp_path):
    content = version_3()
    content["metadata"]["1_a"]["vid"] = "9"
    content["metadata"]["1_b"]["xy"] = "7,1,2"
    content["metadata"]["1_c"]["xy"] = [[], 1]
    content["file"]["6"] = {"fid": 6}
    write(tmp_path / "project.json", content, "a.png", "b.png")
    data, problems = read(tmp_path)
    assert data.num_annotations() == 1
    assert [(p.kind, p.id) for p in problems] == [
        ("image-missing", "6"),
        ("via-structure", "1_a"),
        ("via-structure", "1_b"),
        ("shape-unused", "b.png region 1_c"),
    ]


# --- files


def test_files_called_like_splits(tmp_path):
    write(tmp_path / "via_train.json", entry(region()), "a.png")
    write(tmp_path / "via-val.json", entry(name="b.png"), "b.png")
    assert ViaReader().splits(Tree(tmp_path)) == ["train", "val"]
    assert [record["image_id"] for record in read(tmp_path, "val")[0].records] == ["b.png"]


def test_images_that_are_missing_twice_or_outside(tmp_path):
    names = ("a.png", "gone.png", "../../x.png", "/etc/x.png")
    content = {key: value for name in names for key, value in entry(region(), name=name).items()}
    content["again"] = content["a.png123"]
    content["noname"] = {"regions": []}
    write(tmp_path / "set/via.json", content, "a.png")
    data, problems = read(tmp_path / "set")
    assert len(data.records) == 1
    assert sorted((p.kind, p.id) for p in problems) == [
        ("image-listed-twice", "again"),
        ("image-missing", "gone.png123"),
        ("image-missing", "noname"),
        ("image-outside", "../../x.png123"),
        ("image-outside", "/etc/x.png123"),
    ]


def test_links_out_of_the_folder_are_refused(tmp_path):
    write(tmp_path / "out/via.json", entry(region()), "a.png")
    write(tmp_path / "set/via.json", entry(region(), name="b.png"), "c.png")
    (tmp_path / "set/b.png").symlink_to(tmp_path / "out/a.png")
    (tmp_path / "set/other.json").symlink_to(tmp_path / "out/via.json")
    data, problems = read(tmp_path / "set")
    assert data.records == []
    assert [(p.kind, p.file) for p in problems] == [("image-outside", "via.json")]


def test_damaged_files(tmp_path):
    write(tmp_path / "a.json", entry(region()), "a.png")
    (tmp_path / "b.json").write_text(json.dumps(entry(region(), name="b.png"))[:-9])
    (tmp_path / "c.json").write_text('{"learning_rate": 0.1}')
    data, problems = read(tmp_path)
    assert data.num_annotations() == 1
    assert [(p.kind, p.file) for p in problems] == [("file-unreadable", "b.json")]
    (tmp_path / "a.json").unlink()
    with pytest.raises(UserError, match="truncated"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [], "categories": []},
        {"shapes": [], "imagePath": "a.png", "version": "5.0"},
        [],
        {"lr": 1},
        {"filename": "a.png"},
    ],
)
def test_other_json_is_not_recognised(tmp_path, content):
    write(tmp_path / "a.json", content, "a.png")
    assert ViaReader().recognise(Tree(tmp_path)) is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
SHAPES = ("rect", "polygon", "polyline", "circle", "ellipse", "point", "star")
FIELDS = ("x", "y", "width", "height", "cx", "cy", "r", "rx", "ry", "theta", "all_points_x", "all_points_y")
ANY_NUMBER = st.floats() | st.integers()


@settings(max_examples=80, deadline=None)
@given(
    st.fixed_dictionaries(
        {"name": st.sampled_from(SHAPES)},
        optional={name: ANY_NUMBER | st.lists(ANY_NUMBER, max_size=4) | JSON_VALUES for name in FIELDS},
    )
    | JSON_VALUES
)
def test_any_json_is_a_shape_or_a_region_error(value):
    try:
        outline = region_outline(value)
    except RegionError as error:
        assert error.advice and error.field
    else:
        assert len(outline["bbox"]) == 4


KEYS = ("_via_img_metadata", "_via_settings", "metadata", "file", "view", "attribute", "a")
PARTS = ("filename", "regions", "fname", "src", "vid", "xy", "av", "fid_list", "aname", "options")
ENTRIES = st.dictionaries(st.sampled_from(PARTS), JSON_VALUES | st.just("1") | st.lists(st.integers(1, 9), max_size=5))


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), st.dictionaries(st.just("1"), ENTRIES) | JSON_VALUES) | JSON_VALUES)
def test_any_json_gives_images_or_problems(content):
    images = images_of(content, "via.json", ProblemLog())
    assert all(isinstance(image.name, str) and image.name for image in images)
    class_attribute([region for image in images for region in image.regions])
