"""Each field of a COCO file that training reads: a value that cannot be used is refused in one line."""

import json
import logging

import numpy as np
import pycocotools.mask as mask_util
import pytest

from rcnnkit.data.coco_check import check_coco
from rcnnkit.data.coco_segmentation import decoded_runs, segmentation_problem
from rcnnkit.data.preflight import load_records
from rcnnkit.errors import UserError
from tests.rcnnkit import runs, tiny


@pytest.fixture
def file(tmp_path):
    return tiny.write_data_set(tmp_path)


def change(file, key, position, field, value):
    content = json.loads(file.read_text())
    content[key][position][field] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "field", "value", "message"),
    [
        ("images", "id", [2], r"images\[1\] has id \[2\]"),
        ("images", "id", "two", r"images\[1\] has id 'two'; ids must be all whole numbers or all text"),
        ("images", "id", True, r"images\[1\] has id True"),
        ("images", "id", 1, r"images\[0\] and \[1\] have the same id 1"),
        ("categories", "id", 1, r"categories\[0\] and \[1\] have the same id 1"),
        ("annotations", "id", 1, r"annotations\[0\] and \[1\] have the same id 1"),
        ("annotations", "id", None, r"annotations\[1\] has id None"),
        ("images", "file_name", 7, "image 2 has file_name 7; it must be text"),
        ("images", "height", 0, "image 2 has height 0; it must be a whole number"),
        ("images", "width", "64", "image 2 has width '64'"),
        ("categories", "name", 3, "category 2 has name 3"),
        ("annotations", "image_id", [1], r"annotation 2 has image_id \[1\], which is not listed"),
        ("annotations", "category_id", {"a": 1}, "annotation 2 has category_id {'a': 1}, which is not listed"),
        ("annotations", "bbox", [1, 2, 3], r"annotation 2 has bbox \[1, 2, 3\]; it must be four finite numbers"),
        ("annotations", "bbox", [1, 2, -3, 4], "annotation 2 has bbox"),
        ("annotations", "bbox", [1, 2, float("nan"), 4], "annotation 2 has bbox"),
        ("annotations", "bbox", [1, 2, "3", 4], "annotation 2 has bbox"),
        ("annotations", "bbox", None, "annotation 2 has bbox None"),
        ("annotations", "iscrowd", 2, "annotation 2 has iscrowd 2; it must be 0 or 1"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, 6, 7]], "a polygon has 7 numbers, which is odd"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, float("inf")]], "not a finite number"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, "6"]], "not a finite number"),
        ("annotations", "segmentation", [1, 2, 3, 4, 5, 6], "a polygon is not a list"),
        ("annotations", "segmentation", "01", "neither polygons nor run lengths"),
        ("annotations", "segmentation", {"counts": [3, 3], "size": [2, 2]}, "cover 6 pixels of 2x2"),
        ("annotations", "segmentation", {"counts": [4], "size": [2.0, 2]}, r"size is \[2.0, 2\]"),
        ("annotations", "segmentation", {"counts": "~", "size": [2, 2]}, "counts have the character '~'"),
        ("annotations", "segmentation", {"counts": "P", "size": [2, 2]}, "counts are cut off"),
        ("annotations", "segmentation", {"size": [2, 2]}, "counts are neither text nor whole numbers"),
    ],
)  # fmt: skip
def test_refused_with_file_id_field_and_value(file, key, field, value, message):
    change(file, key, 1, field, value)
    with pytest.raises(UserError, match=message) as caught:
        check_coco("small", file)
    assert str(caught.value).startswith(f"small: {file}: ") and "\n" not in str(caught.value)


def test_no_images(file):
    file.write_text('{"images": [], "categories": [], "annotations": []}')
    with pytest.raises(UserError, match="'images' is empty; list at least one image"):
        check_coco("small", file)


def test_text_ids_pass(file):
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["id"] = f"image {image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"image {annotation['image_id']}"
    file.write_text(json.dumps(content))
    assert check_coco("small", file) == content


def test_flat_boxes_are_told_and_allowed(file, caplog):
    change(file, "annotations", 2, "bbox", [1, 2, 0, 5])
    with caplog.at_level(logging.WARNING, logger="rcnnkit"):
        check_coco("small", file)
    assert "1 boxes have no width or no height (annotation 3 first)" in caplog.text


def test_short_polygons_are_the_loaders_to_drop(file):
    change(file, "annotations", 1, "segmentation", [[1, 2, 3, 4]])
    check_coco("small", file)


def test_run_lengths_by_hand():
    # "1" is 1, "2" is 2, "o0" is 31 (five ones and "more", then none); the fourth is a difference to the second: "O" -1
    assert decoded_runs("12o0O") == [1, 2, 31, 1]


def test_run_lengths_of_pycocotools():
    mask = np.random.RandomState(0).rand(40, 70) > 0.9
    mask[:, 20:50] = False
    runs_of_mask = mask_util.encode(np.asfortranarray(mask))
    text = {"size": [40, 70], "counts": runs_of_mask["counts"].decode()}
    assert sum(decoded_runs(text["counts"])[1::2]) == mask.sum()
    assert segmentation_problem(text) is None
    assert segmentation_problem({"size": [40, 70], "counts": decoded_runs(text["counts"])}) is None
    assert segmentation_problem({**text, "size": [41, 70]}) is not None


def test_data_set_without_records():
    from detectron2.data import DatasetCatalog

    DatasetCatalog.register("coco_check_empty", list)
    try:
        with pytest.raises(UserError, match="coco_check_empty: has no images"):
            load_records("coco_check_empty")
    finally:
        runs.forget_data("coco_check_empty")
