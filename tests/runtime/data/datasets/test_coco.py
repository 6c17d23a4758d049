import json

import numpy as np
import pycocotools.mask as mask_util
import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import coco as coco_module
from detectron2.data.datasets import convert_to_coco_json, load_coco_json, register_coco_instances
from detectron2.structures import BoxMode


def content():
    polygon = [1, 1, 4, 1, 4, 4]
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "height": 6, "width": 8},
            {"id": 2, "file_name": "a.jpg", "height": 6, "width": 8},
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 1, 3, 3], "iscrowd": 0, "segmentation": [polygon]},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 2, 2], "iscrowd": 0, "occluded": 1},
        ],
        "categories": [{"id": 7, "name": "pear"}, {"id": 3, "name": "apple"}],
    }


def written(folder, value, name="a.json"):
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


@pytest.fixture
def named():
    yield "coco_reading"
    MetadataCatalog.pop("coco_reading", None)
    DatasetCatalog.pop("coco_reading", None)


def test_records(tmp_path, named):
    records = load_coco_json(written(tmp_path, content()), "images", named, extra_annotation_keys=["occluded"])
    assert [r["image_id"] for r in records] == [2, 9]
    assert records[0] == {"file_name": "images/a.jpg", "height": 6, "width": 8, "image_id": 2, "annotations": []}
    first, second = records[1]["annotations"]
    assert first["category_id"] == 1
    assert first["bbox_mode"] == BoxMode.XYWH_ABS
    assert first["segmentation"] == [[1, 1, 4, 1, 4, 4]]
    assert second["occluded"] == 1
    assert "segmentation" not in second
    metadata = MetadataCatalog.get(named)
    assert metadata.thing_classes == ["apple", "pear"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_without_a_name_categories_stay(tmp_path):
    records = load_coco_json(written(tmp_path, content()), "images")
    assert [a["category_id"] for a in records[1]["annotations"]] == [7, 3]


def test_polygons_of_two_points_are_left_out(tmp_path):
    value = content()
    value["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    assert len(load_coco_json(written(tmp_path, value), "images")[1]["annotations"]) == 1


def test_uncompressed_rle_is_compressed(tmp_path):
    value = content()
    value["annotations"][0]["segmentation"] = {"size": [6, 8], "counts": [6, 6, 36]}
    rle = load_coco_json(written(tmp_path, value), "images")[1]["annotations"][0]["segmentation"]
    assert mask_util.decode(rle).sum() == 6


def test_image_lists_of_test_sets_have_no_annotations(tmp_path):
    value = content()
    del value["annotations"]
    assert len(load_coco_json(written(tmp_path, value, "image_info_test.json"), "images")) == 2


def change(**fields):
    def changed():
        value = content()
        value["annotations"][0].update(fields)
        return value

    return changed


def without(key):
    return lambda: {name: entry for name, entry in content().items() if name != key}


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: json.dumps(content())[:90], "truncated"),
        (lambda: "", "truncated"),
        (lambda: "[]", "not COCO: the top level is a list"),
        (without("images"), "not COCO: no 'images'"),
        (without("annotations"), "not COCO: no 'annotations'"),
        (without("categories"), "not COCO: no 'categories'"),
        (change(image_id=5), "annotation with id 1 has image_id 5, which is not in the list of images"),
        (change(category_id=5), "annotation with id 1 has category_id 5"),
        (change(bbox=[1, 2, 3]), r"annotation with id 1 has 'bbox' \[1, 2, 3\]"),
        (change(bbox=None), "annotation with id 1 has 'bbox' None"),
        (change(keypoints=[1, 2]), "annotation with id 1 has 2 numbers in 'keypoints'"),
        (change(id=2), "annotation id 2 appears more than once"),
        (change(ignore=1), "annotation with id 1 has 'ignore' 1"),
        (change(segmentation="x"), "annotation with id 1 has a segmentation of type str"),
        (
            change(segmentation={"size": [8, 6], "counts": "1"}),
            r"RLE of size \[8, 6\], its image \(id 9\) has \[6, 8\]",
        ),
        (
            lambda: content() | {"images": [{"id": 2, "file_name": "a.jpg", "height": 6}]},
            "image with id 2 has no 'width'",
        ),
        (lambda: content() | {"images": content()["images"][:1] * 2}, "image id 9 appears more than once"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, named, make, message):
    path = written(tmp_path, make())
    with pytest.raises(ValueError, match=message) as error:
        load_coco_json(path, "images", named)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"^none.json: the annotation file does not exist"):
        load_coco_json("none.json", "images")


def test_round_trip(tmp_path, named):
    register_coco_instances(named, {"note": 1}, written(tmp_path, content()), "images")
    assert MetadataCatalog.get(named).evaluator_type == "coco"
    out = tmp_path / "new" / "out.json"
    convert_to_coco_json(named, str(out))
    result = json.loads(out.read_text())
    assert result["categories"] == [{"id": 3, "name": "apple"}, {"id": 7, "name": "pear"}]
    assert [i["id"] for i in result["images"]] == [2, 9]
    first, second = result["annotations"]
    assert first["bbox"] == [1, 1, 3, 3]
    assert first["area"] == 4.5  # of the triangle
    assert first["category_id"] == 7
    assert second["area"] == 4  # of the box
    assert [p.name for p in out.parent.iterdir() if p.suffix == ".json"] == ["out.json"]


def test_conversion_is_whole_or_not_there(tmp_path, named, monkeypatch):
    register_coco_instances(named, {}, written(tmp_path, content()), "images")
    out = tmp_path / "out.json"
    monkeypatch.setattr(coco_module.json, "dumps", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert_to_coco_json(named, str(out))
    assert not out.exists()
    out.write_text("cached")
    convert_to_coco_json(named, str(out))
    assert out.read_text() == "cached"


def test_keypoints_and_rle_are_written_as_coco_does(named):
    rle = mask_util.encode(np.asfortranarray(np.ones((2, 3), np.uint8)))
    annotation = {
        "bbox": np.array([0.0, 0, 3, 2]),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "segmentation": rle,
        "keypoints": [1.5, 1.5, 2, 0.5, 0.5, 0],
    }
    record = {"file_name": "a", "height": 2, "width": 3, "image_id": 1, "annotations": [annotation]}
    DatasetCatalog.register(named, lambda: [record])
    MetadataCatalog.get(named).thing_classes = ["apple"]
    written_annotation = coco_module.convert_to_coco_dict(named)["annotations"][0]
    assert written_annotation["keypoints"] == [1, 1, 2, 0, 0, 0]
    assert written_annotation["num_keypoints"] == 1
    assert written_annotation["area"] == 6
    assert isinstance(written_annotation["segmentation"]["counts"], str)


@pytest.mark.realdata
def test_coco_mini(real_data, named):
    folder = real_data / "coco_mini"
    people = str(folder / "annotations" / "person_keypoints_val2017.json")
    register_coco_instances(named, {}, people, str(folder / "val2017"))
    records = get_detection_dataset_dicts(named, filter_empty=False)
    assert len(records) == 79
    assert sum(len(r["annotations"]) for r in records) == 118
    with_people = get_detection_dataset_dicts(named, min_keypoints=1)
    assert 0 < len(with_people) < len(records)
    instances = load_coco_json(str(folder / "annotations" / "instances_val2017.json"), str(folder / "val2017"))
    crowds = [a for r in instances for a in r["annotations"] if a["iscrowd"]]
    assert len(crowds) == 5
    assert all(isinstance(a["segmentation"], dict) for a in crowds)


@pytest.mark.realdata
def test_nuts(real_data):
    records = load_coco_json(str(real_data / "nuts" / "trainval.json"), str(real_data / "nuts" / "images"))
    assert len(records) == 18
    assert sum(len(r["annotations"]) for r in records) == 165
