"""COCO JSON: what it holds reads back the same, numbers are COCO's, and a file is there whole or not at all."""

import json
import math

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from detectron2.structures import BoxMode
from rcnnkit.data.formats.coco import CocoReader
from rcnnkit.data.labelled import LabelledData, ProblemLog, Skeleton
from rcnnkit.data.tree import Tree
from rcnnkit.data.writers.coco import image_ids, write_coco
from rcnnkit.errors import UserError

XYWH, XYXY = BoxMode.XYWH_ABS, BoxMode.XYXY_ABS


def record(folder, name="a.png", image_id=1, annotations=()):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 30)).save(path)
    return {
        "file_name": str(path),
        "height": 30,
        "width": 40,
        "image_id": image_id,
        "annotations": [dict(annotation) for annotation in annotations],
    }


def written(data, folder, **options):
    write_coco(data, folder / "out.json", folder, **options)
    return json.loads((folder / "out.json").read_text())


def one(folder, **annotation):
    """The annotation that a data set of one object becomes."""
    annotation = {"category_id": 0, "bbox": [1, 2, 11, 22], "bbox_mode": XYXY, "iscrowd": 0, **annotation}
    data = LabelledData("test", ["thing"], [record(folder, annotations=[annotation])], [])
    return written(data, folder)["annotations"][0]


def test_areas_are_those_of_polygons_masks_and_boxes(tmp_path):
    assert one(tmp_path)["area"] == 200, "10 x 20"
    # A right triangle with legs of 10 and 8, and a square of 2: 40 + 4.
    assert one(tmp_path, segmentation=[[0, 0, 10, 0, 0, 8], [20, 20, 22, 20, 22, 22, 20, 22]])["area"] == 44
    assert one(tmp_path, segmentation={"size": [30, 40], "counts": [5, 7, 1188]}, iscrowd=1)["area"] == 7
    coded = mask_util.encode(np.asfortranarray(np.eye(30, 40, dtype=np.uint8)))
    entry = one(tmp_path, segmentation=coded)
    assert (entry["area"], entry["segmentation"]["counts"]) == (30, coded["counts"].decode())
    assert one(tmp_path, area=123.25)["area"] == 123.25, "what is labelled stays"


def test_keypoints_are_pixel_indices_and_each_class_has_its_skeleton(tmp_path):
    points = [5.5, 6.75, 2, 0.0, 0.0, 0, 0.5, 0.5, 0, 0.25, 9.5, 1]
    annotation = {"category_id": 1, "bbox": [1, 2, 3, 4], "bbox_mode": XYWH, "keypoints": points}
    data = LabelledData("test", ["cat", "dog"], [record(tmp_path, annotations=[annotation])], [])
    data.skeletons = {1: Skeleton(("nose", "tail", "paw", "ear"), ((0, 1), (0, 3)))}
    content = written(data, tmp_path)
    assert content["annotations"][0]["keypoints"] == [5, 6.25, 2, 0, 0, 0, 0, 0, 0, -0.25, 9, 1]
    assert content["annotations"][0]["num_keypoints"] == 2
    assert "keypoints" not in content["categories"][0]
    assert content["categories"][1]["skeleton"] == [[1, 2], [1, 4]]


def test_crowd_and_ignore(tmp_path):
    assert one(tmp_path, iscrowd=1)["iscrowd"] == 1
    assert one(tmp_path, ignore=1)["ignore"] == 1
    assert "ignore" not in one(tmp_path)


def test_ids_stay_where_they_can(tmp_path):
    annotation = {"category_id": 0, "bbox": [1, 2, 3, 4], "bbox_mode": XYWH}
    records = [record(tmp_path, f"{i}.png", 7 - i, [{**annotation, "id": i + 3}]) for i in range(2)]
    data = LabelledData("test", ["thing"], records, [], category_ids=[9])
    content = written(data, tmp_path)
    assert [image["id"] for image in content["images"]] == [7, 6] == image_ids(data)
    assert [(entry["id"], entry["image_id"], entry["category_id"]) for entry in content["annotations"]] == [
        (3, 7, 9),
        (4, 6, 9),
    ]
    records[0]["image_id"] = "sub/0.png"
    records[0]["annotations"][0]["id"] = 0  # pycocotools takes it for no match
    content = written(data, tmp_path)
    assert [(entry["id"], entry["image_id"]) for entry in content["annotations"]] == [(1, 1), (2, 2)]
    assert image_ids(data) == [1, 2]


def test_what_coco_cannot_hold_is_told(tmp_path):
    bad = {"category_id": 0, "bbox": [1, math.nan, 3, 4], "bbox_mode": XYWH, "id": 4}
    short = {"category_id": 0, "bbox": [1, 1, 3, 4], "bbox_mode": XYWH, "id": 5, "segmentation": [[1, 1, 2, 2]]}
    data = LabelledData("test", ["thing"], [record(tmp_path, annotations=[bad, short])], [])
    with pytest.raises(UserError, match=r"a\.png: 4: bbox is nan"):
        written(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"], "neither a file nor a draft of it"
    problems = ProblemLog()
    content = written(data, tmp_path, problems=problems)
    assert [problem.kind for problem in problems] == ["not-finite", "polygon-short"]
    assert len(content["annotations"]) == 1
    assert "segmentation" not in content["annotations"][0]


def test_images_elsewhere_are_refused(tmp_path):
    data = LabelledData("test", ["thing"], [record(tmp_path / "a")], [])
    (tmp_path / "ab").mkdir()
    with pytest.raises(UserError, match="not below"):
        write_coco(data, tmp_path / "out.json", tmp_path / "ab")
    write_coco(data, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["images"][0]["file_name"] == "a.png"


def test_no_images_and_no_objects(tmp_path):
    content = written(LabelledData("test", [], [], []), tmp_path)
    assert content == {"categories": [], "images": [], "annotations": []}
    assert written(LabelledData("test", ["x"], [record(tmp_path)], []), tmp_path)["annotations"] == []


FINITE = st.floats(-100, 1e4, allow_nan=False, width=64)
POLYGON = st.lists(st.tuples(FINITE, FINITE), min_size=3, max_size=8).map(lambda points: [v for p in points for v in p])
OBJECT = st.fixed_dictionaries(
    {"category_id": st.integers(0, 1), "bbox": st.lists(FINITE, min_size=4, max_size=4), "iscrowd": st.integers(0, 1)},
    optional={"segmentation": st.lists(POLYGON, min_size=1, max_size=3), "area": FINITE, "ignore": st.just(1)},
)


@settings(max_examples=20, deadline=None)
@given(st.lists(OBJECT, max_size=4))
def test_reads_back_exactly(tmp_path_factory, objects):
    folder = tmp_path_factory.mktemp("exact")
    objects = [{**annotation, "bbox_mode": XYWH, "id": i + 1} for i, annotation in enumerate(objects)]
    data = LabelledData("test", ["a", "b"], [record(folder, annotations=objects)], [], category_ids=[1, 2])
    write_coco(data, folder / "out.json", folder)
    problems = ProblemLog()
    back = CocoReader().read(Tree(folder / "out.json"), None, problems)
    assert not problems.problems
    for annotation, original in zip(back.records[0]["annotations"], objects, strict=True):
        assert {key: annotation[key] for key in original} == original
    assert (back.classes, back.category_ids) == (data.classes, data.category_ids)


@pytest.mark.realdata
@pytest.mark.parametrize("labels", ["instances_train2017", "person_keypoints_val2017"])
def test_real_coco_comes_back_as_it_was(real_data, tmp_path, labels):
    source = real_data / "coco_mini"
    problems = ProblemLog()
    data = CocoReader().read(Tree(source), labels, problems)
    write_coco(data, tmp_path / "out.json", source)
    back = CocoReader().read(Tree(tmp_path / "out.json", source), None, problems)
    assert not problems.problems
    assert back.records == data.records
    assert (back.classes, back.category_ids, back.skeletons) == (data.classes, data.category_ids, data.skeletons)
    assert len(COCO(str(tmp_path / "out.json")).anns) == data.num_annotations()
