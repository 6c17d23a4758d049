"""YOLO: real potholes against their COCO JSON, the layouts of folders, lines of labels, and damage."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats.coco import CocoReader
from rcnnkit.data.formats.yolo import LineError, YoloReader, parse_line
from rcnnkit.data.formats.yolo_description import Points
from rcnnkit.data.labelled import ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

BOX = "0 0.5 0.5 0.25 0.5"  # of 20 × 10 pixels: 7.5, 2.5, 12.5, 7.5


def write(root, files, size=(20, 10)):
    """Images (by suffix) and texts below a folder."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("L", size).save(path)
        else:
            path.write_text(text)
    return root


def read(path, split=None, images=None):
    problems = ProblemLog()
    return YoloReader().read(Tree(path, images), split, problems), problems


def splits(path):
    return YoloReader().splits(Tree(path))


# --- real data


def test_potholes_are_those_of_their_coco_json(real_data):
    reader, tree = YoloReader(), Tree(real_data / "pothole")
    assert reader.splits(tree) == ["train", "val"]  # as data.yaml says; test/ has no labels
    for split, coco_split, images, objects in (("train", "train", 80, 110), ("val", "valid", 5, 5)):
        data, problems = read(tree.root, split)
        coco = CocoReader().read(tree, coco_split, ProblemLog())
        assert len(problems) == 0 and data.classes == ["pothole"]
        assert len(data.records) == images and data.num_annotations() == objects
        by_name = {record["file_name"]: record for record in coco.records}
        for record in data.records:
            same = by_name[record["file_name"]]
            assert (record["width"], record["height"]) == (same["width"], same["height"])
            for ours, theirs in zip(record["annotations"], same["annotations"], strict=True):
                # Six digits of 640 pixels here, three digits behind the point there.
                for a, b in zip(ours["segmentation"], theirs["segmentation"], strict=True):
                    assert a == pytest.approx(b, abs=0.5e-6 * 640 + 0.5e-3)
    train, _ = read(tree.root, "train")
    (empty,) = [record for record in train.records if not record["annotations"]]
    assert not (real_data / "pothole/train/labels" / (empty["file_name"].split("/")[-1][:-4] + ".txt")).exists()


def test_darknet_lists_of_another_folder(real_data):
    data, problems = read(real_data / "formats/gts/yolo_format", images=real_data / "formats/images")
    assert len(problems) == 0
    assert (data.classes[0], len(data.classes)) == ("person", 20)
    assert {path.name for path in data.files} >= {"obj.data", "obj.names", "train.txt", "2007_000515.txt"}


# --- lines


def test_a_box_is_exact():
    line = parse_line("3 0.041 0.656 0.078 0.25", 500, 375)
    assert line["category_id"] == 3 and line["bbox_mode"] == BoxMode.XYXY_ABS and "segmentation" not in line
    assert line["bbox"] == pytest.approx([1, 199.125, 40, 292.875], abs=1e-9)


def test_a_polygon_is_exact_and_has_its_box():
    line = parse_line("0 0.1 0.2 0.5 0.2 0.5 0.9", 20, 10)
    assert line["segmentation"] == [[0.1 * 20, 0.2 * 10, 0.5 * 20, 0.2 * 10, 0.5 * 20, 0.9 * 10]]
    assert line["bbox"] == [0.1 * 20, 0.2 * 10, 0.5 * 20, 0.9 * 10]


def test_keypoints_of_two_numbers_are_unlabelled_at_the_origin():
    line = parse_line(f"{BOX} 0.5 0.5 0 0", 20, 10, Points(2, 2))
    assert line["keypoints"] == [10, 5, 2, 0, 0, 0] and line["bbox"] == [7.5, 2.5, 12.5, 7.5]


def test_keypoints_of_three_numbers_keep_their_visibility():
    line = parse_line(f"{BOX} 0.5 0.5 1.0 0.25 0.1 0 0 0 2", 20, 10, Points(3, 3))
    assert line["keypoints"] == [10, 5, 1, 5, 1, 0, 0, 0, 2]
    assert [type(v) for v in line["keypoints"][2::3]] == [int] * 3


def test_an_object_may_have_a_box_without_its_keypoints():
    assert "keypoints" not in parse_line(BOX, 20, 10, Points(3, 3))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("0", "numbers after the class"),
        ("0 0.5 0.5 0.1", "numbers after the class"),
        (f"{BOX} 0.9", "numbers after the class"),  # a confidence
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "numbers after the class"),  # half a point
        ("dog 0.5 0.5 0.1 0.1", "value"),
        ("0,0.5,0.5,0.1,0.1", "value"),
        ("-1 0.5 0.5 0.1 0.1", "class"),
        ("0.5 0.5 0.5 0.1 0.1", "class"),
        ("nan 0.5 0.5 0.1 0.1", "class"),
    ],
)
def test_lines_that_are_no_objects(line, field):
    with pytest.raises(LineError) as error:
        parse_line(line, 20, 10)
    assert error.value.field == field and error.value.advice


def test_a_line_of_other_keypoints_than_kpt_shape_says_is_no_polygon():
    with pytest.raises(LineError, match="kpt_shape"):
        parse_line(f"{BOX} 0.5 0.5", 20, 10, Points(2, 2))


def test_impossible_numbers_stay_for_the_check():
    box = parse_line("0 nan 2 -0.5 inf", 20, 10)["bbox"]
    assert math.isnan(box[0]) and box[1] == -math.inf


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(st.floats() | st.integers(), max_size=12).map(lambda v: " ".join(map(str, v))))
@example("1e999 1 1 1 1")
@example("0 " + "9" * 400 + " 1 1 1")
def test_any_line_is_an_object_or_a_line_error(line):
    for points in (None, Points(2, 2), Points(1, 3)):
        if line.split():
            try:
                annotation = parse_line(line, 20, 10, points)
            except LineError:
                continue
            assert len(annotation["bbox"]) == 4 and annotation["category_id"] >= 0


# --- problems


def test_problems_name_the_file_and_the_line(tmp_path):
    label = f"{BOX}\n\n7 0.5 0.5 0.1 0.1\n0 a 0.5 0.1 0.1\n0 0.5 0.5\n"
    write(tmp_path, {"images/a.png": "", "labels/a.txt": label, "classes.txt": "nut\n"})
    data, problems = read(tmp_path)
    assert [annotation["id"] for annotation in data.records[0]["annotations"]] == ["line 1"]
    assert [(p.kind, p.file, p.id, p.field, p.value) for p in problems] == [
        ("class-unknown", "labels/a.txt", "line 3", "class", "7"),
        ("label-line", "labels/a.txt", "line 4", "value", "'a'"),
        ("label-line", "labels/a.txt", "line 5", "numbers after the class", "2"),
    ]


def test_a_label_without_an_image_and_a_broken_image_are_problems(tmp_path):
    write(
        tmp_path, {"images/a.png": "", "labels/a.txt": BOX, "labels/b.txt": BOX, "classes.txt": "nut", "notes.txt": "-"}
    )
    (tmp_path / "images/c.png").write_bytes(b"\x89PNG")
    data, problems = read(tmp_path)
    assert len(data.records) == 1
    assert [(p.kind, p.file) for p in problems] == [
        ("image-unreadable", "images/c.png"),
        ("label-without-image", "labels/b.txt"),
    ]


def test_undecodable_bytes_are_a_problem(tmp_path):
    write(tmp_path, {"images/a.png": "", "images/b.png": "", "labels/a.txt": BOX, "classes.txt": "nut"})
    (tmp_path / "labels/b.txt").write_bytes(b"\xff\xfe\x00\x80 \x00\n\x00")
    data, problems = read(tmp_path)
    assert data.num_annotations() == 1 and [p.kind for p in problems] == ["label-line"] * 2


# --- layouts


@pytest.mark.parametrize("labels", ["{0}/labels/a.txt", "labels/{0}/a.txt"], ids=["train/images", "images/train"])
def test_folders_called_like_splits(tmp_path, labels):
    names = {labels.format(split): BOX for split in ("train", "val2017")}
    pictures = {name.replace("labels", "images").replace(".txt", ".png"): "" for name in names}
    write(tmp_path, {**names, **pictures})
    assert splits(tmp_path) == ["train", "val2017"]
    data, problems = read(tmp_path, "val2017")
    assert len(data.records) == 1 and data.num_annotations() == 1 and "val2017" in data.records[0]["file_name"]
    assert data.classes == ["0"] and [p.kind for p in problems] == ["classes-unnamed"]
    assert len(read(tmp_path)[0].records) == 2


def test_labels_beside_the_images(tmp_path):
    write(tmp_path, {"a.png": "", "a.txt": BOX, "b.png": "", "classes.txt": "nut\nbolt\n\n", "notes.txt": "hello"})
    data, problems = read(tmp_path)
    assert splits(tmp_path) == [] and len(problems) == 0
    assert data.classes == ["nut", "bolt"] and data.category_ids is None
    assert [len(record["annotations"]) for record in data.records] == [1, 0]
    assert [record["image_id"] for record in data.records] == ["a.png", "b.png"]


def test_images_elsewhere_go_with_labels_of_the_same_name(tmp_path):
    write(tmp_path / "pictures", {"a.png": "", "sub/b.png": ""})
    write(tmp_path / "set", {"labels/a.txt": BOX, "labels/sub/b.txt": f"{BOX}\n{BOX}", "classes.txt": "nut"})
    data, problems = read(tmp_path / "set", images=tmp_path / "pictures")
    assert len(problems) == 0 and [len(record["annotations"]) for record in data.records] == [1, 2]


@pytest.mark.parametrize(
    "paths",
    [
        "train: images/train\nval: images/val",
        "path: .\ntrain: ./images/train\nval: [images/val]",
        "path: /home/someone/set\ntrain: images/train\nval: images/val",
        "path: ../elsewhere\ntrain: ../../images/train\nval: ../images/val",
        "train: /home/someone/set/images/train\nval: C:\\sets\\set\\images\\val\n",
        "train: train.txt\nval: ../lists/val.txt",
    ],
)
def test_paths_of_data_yaml_also_of_another_machine(tmp_path, paths):
    write(
        tmp_path,
        {
            "data.yaml": f"{paths}\nnames: [nut, no]\nnc: 2\n",
            "images/train/a.png": "",
            "images/train/deep/b.png": "",
            "images/val/c.png": "",
            "labels/train/a.txt": BOX,
            "labels/train/deep/b.txt": BOX.replace("0", "1", 1),
            "train.txt": "./images/train/a.png\n/data/set/images/train/deep/b.png\n",
            "lists/val.txt": "../images/val/c.png\n",
        },
    )
    assert splits(tmp_path) == ["train", "val"]
    train, problems = read(tmp_path, "train")
    assert len(problems) == 0 and train.classes == ["nut", "no"]  # not the truth value that YAML makes of `no`
    assert [record["annotations"][0]["category_id"] for record in train.records] == [0, 1]
    val, _ = read(tmp_path, "val")
    assert [record["file_name"] for record in val.records] == [str(tmp_path / "images/val/c.png")]
    assert read(tmp_path / "data.yaml", "val")[0].records == val.records


def test_paths_that_lead_nowhere_leave_the_folders(tmp_path):
    write(tmp_path, {"data.yaml": "train: a/b\nnames: {0: nut}", "images/x.png": "", "labels/x.txt": BOX})
    data, problems = read(tmp_path)
    assert data.classes == ["nut"] and data.num_annotations() == 1
    assert [(p.kind, p.field, p.value) for p in problems] == [("split-missing", "train", "'a/b'")]


def test_keypoints_of_data_yaml(tmp_path):
    text = "train: images\nnames: [hand]\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nkpt_names: {0: [tip, l, r]}\n"
    line = f"{BOX} 0.5 0.5 2 0 0 0 0.5 0.5 1"
    write(tmp_path, {"data.yaml": text, "images/x.png": "", "labels/x.txt": line})
    data, problems = read(tmp_path)
    assert len(problems) == 0
    assert data.skeletons[0].names == ("tip", "l", "r") and data.skeletons[0].flip_pairs == ((1, 2),)
    assert data.records[0]["annotations"][0]["keypoints"] == [10, 5, 2, 0, 0, 0, 10, 5, 1]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("names: [a]\nkpt_shape: 17", "keypoint-shape"),
        ("names: [a]\nkpt_shape: [3, 4]", "keypoint-shape"),
        ("names: [a]\nkpt_shape: [2, 2]\nflip_idx: [0, 0]", "keypoint-flip"),
        ("names: [a]\nkpt_shape: [2, 2]\nkpt_names: [x]", "keypoint-names"),
        ("names: [a, [b]]", "class-name"),
        ("names: {a: b, 0: c}", "class-name"),
        ("names: [a]\nnc: 3", "class-count"),
    ],
)
def test_what_data_yaml_says_wrongly(tmp_path, text, kind):
    write(tmp_path, {"data.yaml": f"train: images\n{text}", "images/x.png": "", "labels/x.txt": BOX})
    data, problems = read(tmp_path)
    assert [p.kind for p in problems] == [kind] and data.num_annotations() == 1


def test_numbers_of_classes_may_have_gaps(tmp_path):
    label = "5 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.1 0.1"
    write(tmp_path, {"data.yaml": "train: images\nnames: {5: b, 2: a}", "images/x.png": "", "labels/x.txt": label})
    data, problems = read(tmp_path)
    assert data.classes == ["a", "b"] and data.category_ids == [2, 5]
    assert [a["category_id"] for a in data.records[0]["annotations"]] == [1] and len(problems) == 1


@pytest.mark.parametrize(
    "text", ["names: [", "names: &a [*a]\ntrain: x", "- 1", "train: [\0]", "\x00", "train: images"]
)
def test_damaged_data_yaml(tmp_path, text):
    write(tmp_path, {"data.yaml": text, "images/x.png": "", "labels/x.txt": BOX})
    assert read(tmp_path)[0].num_annotations() == 1


def test_classes_that_differ_between_splits(tmp_path):
    for split, names in (("train", "nut\nbolt"), ("val", "bolt\nnut")):
        write(tmp_path / split, {"images/a.png": "", "labels/a.txt": BOX, "classes.txt": names})
    data, problems = read(tmp_path)
    assert data.classes == ["nut", "bolt"] and [(p.kind, p.file) for p in problems] == [
        ("class-names-differ", "val/classes.txt")
    ]


def test_listed_images_that_are_missing_or_twice(tmp_path):
    lines = "data/a.png\nb.png\n\na.png\n../../../etc/c.png\n"
    write(tmp_path, {"obj.names": "nut", "train.txt": lines, "data/a.png": "", "data/a.txt": BOX})
    data, problems = read(tmp_path, "train")
    assert data.num_annotations() == 1
    assert [(p.kind, p.id) for p in problems] == [
        ("image-missing", "line 2"),
        ("image-listed-twice", "line 4"),
        ("image-outside", "line 5"),
    ]


def test_links_out_of_the_folder_are_refused(tmp_path):
    write(tmp_path / "out", {"a.png": "", "b.txt": BOX, "classes.txt": "secret"})
    root = write(tmp_path / "set", {"images/b.png": "", "images/c.png": "", "labels/c.txt": BOX})
    (root / "images/a.png").symlink_to(tmp_path / "out/a.png")
    (root / "labels/b.txt").symlink_to(tmp_path / "out/b.txt")
    (root / "classes.txt").symlink_to(tmp_path / "out/classes.txt")
    data, problems = read(root)
    assert [record["image_id"] for record in data.records] == ["images/c.png"] and data.classes == ["0"]
    assert [(p.kind, p.file) for p in problems][:2] == [
        ("image-outside", "images/a.png"),
        ("label-outside", "labels/b.txt"),
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"images/a.png": ""},
        {"images/a.png": "", "labels/a.txt": "hello world"},
        {"a.png": "", "a.txt": "A dog on a lawn."},
        {"images/a.png": "", "ImageSets/Main/train.txt": "a"},
        {"a.png": "", "config.yaml": "names: 1\nlr: 0.1"},
        {"a.png": "", "a.json": json.dumps({"shapes": [], "imagePath": "a.png"})},
    ],
)
def test_other_folders_are_not_recognised(tmp_path, files):
    write(tmp_path, files)
    assert YoloReader().recognise(Tree(tmp_path)) is None
    with pytest.raises(UserError, match="no images with YOLO's labels"):
        read(tmp_path)


def test_the_reason_names_what_was_seen(tmp_path):
    write(tmp_path, {"images/a.png": "", "images/b.png": "", "labels/a.txt": "", "labels/b.txt": BOX})
    assert "labels/b.txt" in YoloReader().recognise(Tree(tmp_path))
