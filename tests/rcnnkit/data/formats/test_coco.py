"""COCO JSON: the parts of a folder, dialects, and what has no place in a record."""

import json
import os

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats import ProblemLog, Tree
from rcnnkit.data.formats.coco import CocoReader
from rcnnkit.data.formats.coco_files import ImageFinder
from rcnnkit.data.labelled import Skeleton
from rcnnkit.errors import UserError
from tests.rcnnkit import tiny

READER = CocoReader()


def read(folder, split=None, images=None):
    problems = ProblemLog()
    return READER.read(Tree(folder, images), split, problems), problems


def coco(folder, images=("a.png",), annotations=(), categories=({"id": 1, "name": "nut"},), name="labels.json"):
    """Write 8×6 images and a COCO file of them; an annotation is completed with what it does not say."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        Image.new("RGB", (8, 6)).save(folder / image)
    listed = [{"id": i + 1, "file_name": image, "width": 8, "height": 6} for i, image in enumerate(images)]
    whole = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 3], **annotation}
        for i, annotation in enumerate(annotations)
    ]
    content = {"images": listed, "annotations": whole, "categories": list(categories)}
    (folder / name).write_text(json.dumps(content))
    return content


def rewrite(folder, content, name="labels.json"):
    (folder / name).write_text(json.dumps(content))


def test_records(tmp_path):
    polygon = [1.0, 2.0, 4.0, 2.0, 4.0, 5.0]
    coco(
        tmp_path,
        ("b.png", "a.png"),
        [{"segmentation": [polygon], "area": 4.5, "iscrowd": 0}, {"image_id": 2, "iscrowd": 1, "ignore": 1}],
    )
    data, problems = read(tmp_path)
    assert not len(problems) and (data.format, data.classes, data.category_ids) == ("coco", ["nut"], [1])
    assert data.records[0] == {
        "file_name": str(tmp_path.resolve() / "b.png"), "height": 6, "width": 8, "image_id": 1,
        "annotations": [{"id": 1, "category_id": 0, "bbox": [1, 2, 3, 3], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0,
                         "segmentation": [polygon], "area": 4.5}],
    }  # fmt: skip
    assert data.records[1]["annotations"][0]["ignore"] == data.records[1]["annotations"][0]["iscrowd"] == 1
    assert not data.is_coco_file  # evaluators do not know of `ignore`


def test_class_ids_with_gaps(tmp_path):
    coco(tmp_path, annotations=[{"category_id": 7}], categories=[{"id": 7, "name": "bolt"}, {"id": 3, "name": "nut"}])
    data, _ = read(tmp_path)
    assert (data.classes, data.category_ids, data.is_coco_file) == (["nut", "bolt"], [3, 7], True)
    assert data.records[0]["annotations"][0]["category_id"] == 1


def test_run_lengths_compressed_or_not(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:5, 1:4] = 1
    coded = mask_util.encode(np.asfortranarray(mask))
    text = {"size": [6, 8], "counts": coded["counts"].decode()}
    counts = [8, 3, 3, 3, 3, 3, 25]
    coco(tmp_path, annotations=[{"segmentation": text}, {"segmentation": {"size": [6, 8], "counts": counts}}])
    data, _ = read(tmp_path)
    first, second = data.records[0]["annotations"]
    assert first["segmentation"] == second["segmentation"] == text


def test_keypoints_are_moved_to_the_centres_of_pixels(tmp_path):
    category = {"id": 1, "name": "nut", "keypoints": ["left", "right"], "skeleton": [[1, 2]]}
    coco(tmp_path, annotations=[{"keypoints": [1, 2, 2, 0, 0, 0]}], categories=[category])
    data, _ = read(tmp_path)
    assert data.records[0]["annotations"][0]["keypoints"] == [1.5, 2.5, 2, 0.5, 0.5, 0]
    assert data.skeletons == {0: Skeleton(("left", "right"), ((0, 1),))}


def test_sizes_come_from_the_image_where_the_file_has_none(tmp_path):
    content = coco(tmp_path, annotations=[{}])
    del content["images"][0]["width"]
    rewrite(tmp_path, content)
    data, _ = read(tmp_path)
    assert (data.records[0]["width"], data.records[0]["height"], data.is_coco_file) == (8, 6, False)


def test_numbers_stay_as_they_are_even_impossible_ones(tmp_path):
    coco(tmp_path, annotations=[{"bbox": [1, 2, float("nan"), -4], "segmentation": [[1, 2, 3]]}])
    data, problems = read(tmp_path)
    annotation = data.records[0]["annotations"][0]
    assert (
        not len(problems) and str(annotation["bbox"]) == "[1, 2, nan, -4]" and annotation["segmentation"] == [[1, 2, 3]]
    )


@pytest.mark.parametrize(
    ("change", "kind", "objects"),
    [
        ({"bbox": [1, 2, "3", 4]}, "box-unreadable", 1),
        ({"bbox": [1, 2, 3]}, "box-unreadable", 1),
        ({"bbox": None}, "box-unreadable", 1),
        ({"image_id": 9}, "image-unknown", 1),
        ({"image_id": [1]}, "image-unknown", 1),
        ({"image_id": True}, "image-unknown", 1),
        ({"category_id": "1"}, "class-unknown", 1),
        ({"id": 1}, "duplicate-annotation-id", 2),
        ({"id": 2.5}, "id-unreadable", 1),
        ({"iscrowd": 2}, "crowd-unreadable", 2),
        ({"segmentation": "01"}, "mask-unreadable", 2),
        ({"segmentation": [[1, 2, "3", 4, 5, 6]]}, "mask-unreadable", 2),
        ({"segmentation": {"counts": "~", "size": [6, 8]}}, "mask-unreadable", 2),
        ({"keypoints": [1, 2]}, "keypoints-unreadable", 2),
    ],
)
def test_what_has_no_place_is_left_out_and_told(tmp_path, change, kind, objects):
    coco(tmp_path, annotations=[{}, change])
    data, problems = read(tmp_path)
    assert [problem.kind for problem in problems] == [kind]
    assert problems.problems[0].file == "labels.json" and data.num_annotations() == objects and not data.is_coco_file


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"file_name": "gone.png"}, "image-missing"),
        ({"file_name": 7}, "image-missing"),
        ({"file_name": "../secret.png"}, "image-outside"),
        ({"file_name": "/etc/passwd"}, "image-outside"),
        ({"file_name": "link.png"}, "image-outside"),
        ({"id": 1}, "duplicate-image-id"),
        ({"id": [2]}, "id-unreadable"),
    ],
)
def test_images_that_cannot_be_used(tmp_path, change, kind):
    root = tmp_path / "data"
    content = coco(root, ("a.png", "b.png"))
    Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
    os.symlink(tmp_path / "secret.png", root / "link.png")
    content["images"][1].update(change)
    content["annotations"] = [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 3]}]
    rewrite(root, content)
    data, problems = read(root)
    assert problems.problems[0].kind == kind and [record["image_id"] for record in data.records] == [1]


def test_a_width_that_is_no_number_is_told_and_read_from_the_image(tmp_path):
    content = coco(tmp_path)
    content["images"][0]["width"] = "8"
    rewrite(tmp_path, content)
    data, problems = read(tmp_path)
    assert problems.problems[0].kind == "size-unreadable" and data.records[0]["width"] == 8


def test_a_cut_off_file_and_one_that_is_not_coco(tmp_path):
    coco(tmp_path)
    text = (tmp_path / "labels.json").read_bytes()
    (tmp_path / "labels.json").write_bytes(text[:-9])
    with pytest.raises(UserError, match=r"labels\.json is truncated or not JSON"):
        read(tmp_path)
    (tmp_path / "labels.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="is not COCO: it has no list 'categories'"):
        read(tmp_path)


class TestParts:
    def test_roboflow(self, tmp_path):
        group = [{"id": 0, "name": "nuts", "supercategory": "none"}, {"id": 1, "name": "nut", "supercategory": "nuts"}]
        for part in ("train", "valid"):
            coco(tmp_path / part, annotations=[{}], categories=group, name="_annotations.coco.json")
        tree = Tree(tmp_path)
        assert READER.splits(tree) == ["train", "valid"] and "_annotations.coco.json" in READER.recognise(tree)
        data, _ = read(tmp_path, "valid")
        assert (data.classes, data.category_ids) == (["nut"], [1])  # the group is no class
        assert data.records[0]["file_name"].endswith("valid/a.png")
        whole, _ = read(tmp_path)
        assert [record["image_id"] for record in whole.records] == ["train/1", "valid/1"]

    def test_as_published(self, tmp_path):
        for part in ("train2017", "val2017"):
            coco(tmp_path / part)
            (tmp_path / "annotations").mkdir(exist_ok=True)
            os.replace(tmp_path / part / "labels.json", tmp_path / "annotations" / f"instances_{part}.json")
        (tmp_path / "annotations" / "captions_train2017.json").write_text('{"images": [], "annotations": []}')
        assert READER.splits(Tree(tmp_path)) == ["train2017", "val2017"]
        data, problems = read(tmp_path, "val2017")
        assert data.records[0]["file_name"].endswith("val2017/a.png") and not len(problems)

    def test_one_file_is_the_whole(self, tmp_path):
        coco(tmp_path, name="trainval.json")
        assert READER.splits(Tree(tmp_path)) == []

    def test_other_json_is_not_recognised(self, tmp_path):
        (tmp_path / "a.json").write_text('{"version": "5.0", "shapes": [], "imagePath": "a.png"}')
        (tmp_path / "b.json").write_text("[]")
        (tmp_path / "c.json").write_text('{"item": {}, "annotations": [{"name": "a"}]}')
        assert READER.recognise(Tree(tmp_path)) is None

    def test_a_folder_of_images_elsewhere(self, tmp_path):
        content = coco(tmp_path / "images")
        (tmp_path / "labels").mkdir()
        rewrite(tmp_path / "labels", content)
        data, _ = read(tmp_path / "labels", images=tmp_path / "images")
        assert data.records[0]["file_name"] == str(tmp_path.resolve() / "images" / "a.png")


def test_the_loader_of_detectron2_reads_the_same(tmp_path):
    from detectron2.data.datasets import load_coco_json

    data, _ = read(tiny.write_data_set(tmp_path))
    expected = load_coco_json(str(tmp_path / "tiny.json"), str(tmp_path.resolve()))
    for record, other in zip(data.records, expected, strict=True):
        for annotation, wanted in zip(record["annotations"], other["annotations"], strict=True):
            assert annotation["category_id"] == wanted["category_id"] - 1
            assert {key: annotation[key] for key in ("bbox", "segmentation", "bbox_mode", "iscrowd")} == {
                key: wanted[key] for key in ("bbox", "segmentation", "bbox_mode", "iscrowd")
            }
        assert {key: record[key] for key in ("file_name", "height", "width", "image_id")} == {
            key: other[key] for key in ("file_name", "height", "width", "image_id")
        }


@pytest.mark.realdata
def test_counts_of_real_data(real_data):
    counts = {}
    for name, split in (
        ("nuts", None),
        ("pothole", None),
        ("formats", "v2"),
        ("coco_mini", "person_keypoints_val2017"),
    ):
        data, problems = read(real_data / name, split)
        assert not len(problems)
        counts[name] = (len(data.records), data.num_annotations(), len(data.classes))
    assert counts == {
        "nuts": (18, 165, 3),
        "pothole": (90, 120, 1),
        "formats": (100, 273, 20),
        "coco_mini": (79, 118, 1),
    }


def test_the_folder_of_the_images_is_called_like_the_role_in_the_file_s_name(tmp_path):
    for part in ("train", "val"):  # the same name in both: the name alone does not say which
        (tmp_path / part).mkdir()
        (tmp_path / part / "0.png").write_bytes(b"")
    (tmp_path / "annotations").mkdir()
    tree = Tree(tmp_path)
    file = tmp_path / "annotations/parts_val.json"
    assert ImageFinder(tree, file, "parts_val").find("0.png") == str(tmp_path / "val/0.png")
    assert ImageFinder(tree, file, "parts_train_val").find("0.png") is None
