"""Data sets by path and by entry in the catalogs: fields, classes kept, merged and ignored, repeated registration."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.data.entries import DataSource, Reading, parse_entry
from rcnnkit.data.evaluation_file import needs_evaluation_file, write_evaluation_file
from rcnnkit.data.labelled import Skeleton
from rcnnkit.data.naming import Holdout
from rcnnkit.data.registration import forget, register_custom_datasets, register_paths
from rcnnkit.errors import UserError
from tests.rcnnkit import tiny


@pytest.fixture
def path(tmp_path):
    tiny.write_data_set(tmp_path)
    yield str(tmp_path)
    for name in [name for name in DatasetCatalog.list() if name.startswith((str(tmp_path), "small"))]:
        forget(name)


def register(path, **fields):
    register_custom_datasets([{"name": "small", "path": path, **fields}])
    return DatasetCatalog.get("small"), MetadataCatalog.get("small")


def classes_of(records):
    return [annotation["category_id"] for record in records for annotation in record["annotations"]]


def change(path, key, position, **fields):
    file = f"{path}/tiny.json"
    with open(file) as opened:
        content = json.load(opened)
    content[key][position].update(fields)
    with open(file, "w") as opened:
        json.dump(content, opened)


class TestPaths:
    def test_registered_under_the_name_as_written(self, path):
        register_paths([path, f"{path}@val"])
        assert len(DatasetCatalog.get(path)) == 4 and len(DatasetCatalog.get(f"{path}@val")) == 1
        metadata = MetadataCatalog.get(path)
        assert metadata.thing_classes == ["bright", "dark"] and metadata.json_file == f"{path}/tiny.json"
        assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1} and metadata.data_format == "coco"
        assert MetadataCatalog.get(f"{path}@val").get("json_file") is None  # the file has the other images too

    @pytest.mark.parametrize("odd", ["first", -1])
    def test_ids_that_evaluators_cannot_use_become_others_in_a_file_of_its_own(self, path, odd):
        with open(f"{path}/tiny.json") as opened:
            known = json.load(opened)
        ids = [odd if type(odd) is int and not i else f"{odd}{i}" if type(odd) is str else i + 1 for i in range(4)]
        renamed = {image["id"]: new for image, new in zip(known["images"], ids, strict=True)}
        for image in known["images"]:
            image["id"] = renamed[image["id"]]
        for annotation in known["annotations"]:
            annotation["image_id"] = renamed[annotation["image_id"]]
        with open(f"{path}/tiny.json", "w") as opened:
            json.dump(known, opened)
        register_paths([path])
        assert sorted(record["image_id"] for record in DatasetCatalog.get(path)) == [1, 2, 3, 4]
        assert MetadataCatalog.get(path).get("json_file") is None and needs_evaluation_file(path)

    def test_objects_without_keypoints_get_them_in_the_evaluation_file(self, path, tmp_path):
        change(path, "categories", 0, keypoints=["left_end", "top"])
        change(path, "annotations", 0, keypoints=[5, 5, 2, 7, 7, 2])
        register_paths([path])
        assert MetadataCatalog.get(path).get("json_file") is None
        write_evaluation_file(path, tmp_path / "out.json")
        with open(tmp_path / "out.json") as opened:
            written = json.load(opened)["annotations"]
        points = [entry["keypoints"] for entry in written if entry["num_keypoints"] == 0]
        assert len(written) == 8 and points == [[0] * 6] * 7

    @pytest.mark.parametrize(
        "points, said", [([5, 5, 2], "3 numbers"), ([5, 5, 2, float("nan"), 7, 2], "not all finite")]
    )
    def test_keypoints_that_no_tensor_can_hold(self, path, points, said):
        change(path, "categories", 0, keypoints=["left_end", "right_end"])
        change(path, "annotations", 0, keypoints=points)
        with pytest.raises(UserError, match=f"(?s)annotation .*(has keypoints that cannot be used: .*{said}|NaN)"):
            register_paths([path])

    def test_what_is_told_of_sides_and_of_images_that_nothing_names(self, path, caplog):
        change(path, "categories", 0, keypoints=["left_end", "top"])
        with open(f"{path}/tiny.json") as opened:
            name = json.load(opened)["images"][0]["file_name"]
        (tiny_image,) = Path(path).rglob(name)
        shutil.copy(tiny_image, f"{path}/other.png")
        with caplog.at_level(logging.INFO, logger="rcnnkit"):
            register_paths([path])
        assert "the other side of left_end is not among the keypoints" in caplog.text
        assert "remarks: 1 image-unlisted; see rcnnkit data check" in caplog.text

    def test_category_ids_that_evaluators_cannot_use(self, path):
        change(path, "categories", 0, id=-1)
        with open(f"{path}/tiny.json") as opened:
            known = json.load(opened)
        for annotation in known["annotations"]:
            annotation["category_id"] = {1: -1}.get(annotation["category_id"], annotation["category_id"])
        with open(f"{path}/tiny.json", "w") as opened:
            json.dump(known, opened)
        register_paths([path])
        metadata = MetadataCatalog.get(path)
        assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1} and metadata.get("json_file") is None

    def test_neither_catalogued_names_nor_what_is_no_path(self, path):
        before = DatasetCatalog.list()
        register_paths(["coco_2017_train", f"{path}/gone"])
        assert DatasetCatalog.list() == before

    def test_twice_reads_once(self, path, monkeypatch):
        register_paths([path])
        records = DatasetCatalog.get(path)
        register_paths([path])
        assert DatasetCatalog.get(path)[0] is records[0]

    def test_changed_files_and_another_draw_are_read_again(self, path):
        name = f"{path}@val"
        register_paths([name])
        change(path, "categories", 0, name="white")
        register_paths([name])
        assert MetadataCatalog.get(name).thing_classes == ["white", "dark"]
        register_paths([name], Reading(Holdout(0.5)))
        assert len(DatasetCatalog.get(name)) == 2

    def test_the_log_says_what_was_seen(self, path, caplog):
        change(path, "annotations", 2, bbox=[1, 2, 0, 5])
        with caplog.at_level(logging.INFO, logger="rcnnkit"):
            register_paths([path])
        assert "coco: tiny.json has COCO's lists" in caplog.text
        assert "4 images, 8 objects, 2 classes (bright, dark)" in caplog.text
        assert "1 boxes have no width or no height" in caplog.text and "annotation 3" in caplog.text


class TestRefused:
    def test_field_of_the_coco_file(self, path):
        change(path, "annotations", 1, bbox=[1, 2, -3, 4])
        with pytest.raises(UserError, match=r"tiny.json: annotation 2 has bbox \[1, 2, -3, 4\]"):
            register_paths([path])

    def test_missing_image(self, path):
        change(path, "images", 1, file_name="gone.png")
        with pytest.raises(UserError, match=r"tiny.json: image 2: file_name is 'gone.png': the file is missing"):
            register_paths([path])

    def test_run_lengths_of_another_size(self, path):
        change(path, "annotations", 1, segmentation={"size": [2, 2], "counts": [0, 4]})
        with pytest.raises(UserError, match=r"annotation 2 has a mask .* size is \[2, 2\], the image has \[64, 64\]"):
            register_paths([path])

    def test_a_class_named_twice(self, path):
        change(path, "categories", 1, name="bright")
        with pytest.raises(UserError, match="two classes have the name 'bright'"):
            register_paths([path])

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (7, r"DATASETS.CUSTOM\[0\] is 7; an entry has the fields name, path"),
            ({"name": "small", "pth": "x"}, "unknown field 'pth'; nearest: path"),
            ({"name": "small"}, "has no 'path'"),
            ({"path": "x"}, "has no 'name'"),
            ({"name": "small", "path": "x", "json": "y"}, "has both 'path' and 'json'"),
            ({"name": "small", "path": "/no/such"}, "the path /no/such is missing"),
            ({"name": "small", "path": ".", "format": "coko"}, "format 'coko' is unknown; nearest: coco"),
            ({"name": "small", "path": ".", "images": "/no/such"}, "the folder of images /no/such is missing"),
            ({"name": "small", "path": ".", "classes": "nut"}, "classes is 'nut'; it must be a list"),
            ({"name": "small", "path": ".", "merge": ["nut"]}, r"merge is \['nut'\]; write new name: \[old names\]"),
            ({"name": "small", "path": ".", "keypoints": {"skeleton": []}}, "needs names"),
            ({"name": "small", "path": ".", "keypoints": {"names": ["a"], "flip_pair": []}}, "nearest: flip_pairs"),
            ({"name": "small", "path": ".", "keypoints": {"names": ["a"], "skeleton": [["a", "b"]]}}, "has 'b'"),
        ],
    )
    def test_entry(self, entry, message):
        with pytest.raises(UserError, match=message):
            register_custom_datasets([entry])


class TestEntries:
    def test_the_older_field_for_a_coco_file(self, path):
        register_custom_datasets([{"name": "small", "json": f"{path}/tiny.json"}])
        assert len(DatasetCatalog.get("small")) == 4

    def test_same_content_passes_other_content_shows_both(self, path):
        register(path)
        register(path)
        with pytest.raises(UserError, match=r"the name 'small' is taken by {'path': .*this entry is .*'classes'"):
            register(path, classes=["dark"])

    def test_a_catalogued_name_is_taken(self, path):
        with pytest.raises(UserError, match=r"the name 'coco_2017_train' is taken by .*instances_train2017.json"):
            register_custom_datasets([{"name": "coco_2017_train", "path": path}])

    def test_keep(self, path):
        records, metadata = register(path, classes=["dark"])
        assert metadata.thing_classes == ["dark"] and classes_of(records) == [0] * 4 and len(records) == 4
        assert metadata.get("json_file") is None

    def test_order_of_what_is_kept(self, path):
        records, metadata = register(path, classes=["dark", "bright"])
        assert metadata.thing_classes == ["dark", "bright"] and classes_of(records)[:2] == [1, 0]

    def test_merge(self, path):
        records, metadata = register(path, merge={"square": ["bright", "dark"]})
        assert metadata.thing_classes == ["square"] and classes_of(records) == [0] * 8

    def test_ignore(self, path):
        records, metadata = register(path, ignore=["bright"])
        flags = [annotation.get("ignore", 0) for record in records for annotation in record["annotations"]]
        assert metadata.thing_classes == ["dark"] and flags == [1, 0] * 4

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"classes": ["drak"]}, "classes names the class 'drak', .*nearest: dark"),
            ({"merge": {"square": ["drak"]}}, "merge names the class 'drak'"),
            ({"ignore": ["bright", "dark"]}, "no class is left of bright, dark"),
        ],
    )
    def test_classes_that_are_not_there(self, path, fields, message):
        with pytest.raises(UserError, match=message):
            register(path, **fields)

    def test_keypoint_definition(self, path):
        change(path, "annotations", 0, keypoints=[3, 3, 2, 9, 9, 1])
        points = {"names": ["l_end", "r_end"], "skeleton": [["l_end", "r_end"]], "flip_pairs": [[1, 2]]}
        records, metadata = register(path, keypoints=points)
        assert metadata.keypoint_names == ("l_end", "r_end") and metadata.keypoint_flip_map == (("l_end", "r_end"),)
        assert records[0]["annotations"][0]["keypoints"] == [3.5, 3.5, 2, 9.5, 9.5, 1]

    def test_keypoint_definition_of_another_length(self, path):
        change(path, "annotations", 0, keypoints=[3, 3, 2, 9, 9, 1])
        with pytest.raises(UserError, match="object 1 has 2 keypoints, but the config names 1"):
            register(path, keypoints={"names": ["end"]})


def test_a_source_tells_what_it_was_given(tmp_path):
    points = {"names": ["a", "b"], "skeleton": [[1, "b"]]}
    name, source = parse_entry("here", {"name": "x", "path": str(tmp_path), "keypoints": points})
    assert (name, source) == ("x", DataSource(str(tmp_path), skeleton=Skeleton(("a", "b"), ((0, 1),))))
    assert "skeleton" in str(source) and "format" not in str(source)


def test_image_ids_become_numbers(path):
    file = f"{path}/tiny.json"
    with open(file) as opened:
        content = json.load(opened)
    for entry in (*content["images"], *content["annotations"]):
        key = "image_id" if "image_id" in entry else "id"
        entry[key] = f"image {entry[key]}"
    with open(file, "w") as opened:
        json.dump(content, opened)
    register_paths([path])
    assert [record["image_id"] for record in DatasetCatalog.get(path)] == list(np.arange(1, 5))
