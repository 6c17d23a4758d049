"""Classes of several data sets: united by name, mapped for each, put back, and written for the evaluation."""

import json

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from rcnnkit.data.class_union import serve_with_classes, unite
from rcnnkit.data.evaluation_file import (
    evaluation_file,
    file_slug,
    needs_evaluation_file,
    set_evaluation_file,
    write_evaluation_file,
)
from rcnnkit.data.registration import forget, register_custom_datasets
from rcnnkit.errors import UserError
from tests.rcnnkit import tiny


@pytest.fixture
def sets(tmp_path):
    """Return a data set "first" of the classes bright and dark, and others made by renaming its classes."""
    file = tiny.write_data_set(tmp_path)
    names = ["first"]

    def add(name, renamed, catalogued=False, **fields):
        content = json.loads(file.read_text())
        for category, new in zip(content["categories"], renamed, strict=True):
            category["name"] = new
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        names.append(name)
        if catalogued:
            register_coco_instances(name, {}, str(path), str(tmp_path))
        else:
            register_custom_datasets([{"name": name, "path": str(path), **fields}])
        return name

    register_custom_datasets([{"name": "first", "path": str(file)}])
    yield add
    for name in names:
        forget(name)


def categories(name):
    return [annotation["category_id"] for annotation in DatasetCatalog.get(name)[0]["annotations"]]


def written(name, folder):
    path = evaluation_file(name, folder)
    write_evaluation_file(name, path)
    set_evaluation_file(name, path)
    return json.loads(path.read_text())


@pytest.mark.parametrize("catalogued", [False, True])
def test_united_by_name_in_the_order_of_the_data_sets(sets, catalogued):
    names = ["first", sets("second", ["dark", "grey"], catalogued)]
    assert unite(names) == ["bright", "dark", "grey"] and unite(names[::-1]) == ["dark", "grey", "bright"]
    serve_with_classes(names, (), unite(names))
    assert (categories("first"), categories("second")) == ([0, 1], [1, 2])
    for name in names:
        assert MetadataCatalog.get(name).thing_classes == ["bright", "dark", "grey"]
        assert needs_evaluation_file(name)
    assert len(get_detection_dataset_dicts(names)) == 8  # Detectron2's own check of the metadata passes
    serve_with_classes(names[1:], (), ["dark", "grey"])
    assert categories("second") == [0, 1] and not needs_evaluation_file("second")
    assert MetadataCatalog.get("second").json_file.endswith("second.json")


def test_the_same_classes_change_nothing(sets):
    names = ["first", sets("second", ["bright", "dark"], catalogued=True)]
    records, metadata = DatasetCatalog.get("second"), MetadataCatalog.get("second")
    serve_with_classes(names, names, unite(names))
    assert MetadataCatalog.get("second") is metadata and DatasetCatalog.get("second") == records
    assert MetadataCatalog.get("first").json_file.endswith("tiny.json")


def test_unknown_classes_are_named_with_the_nearest_of_the_missing(sets):
    other = sets("other", ["Bright", "dark"])
    with pytest.raises(
        UserError, match=r"other: has classes that the model does not have: 'Bright' .nearest: 'bright'"
    ):
        serve_with_classes(["first"], [other], unite(["first"]))


def test_a_subset_is_told_and_evaluated_on_its_own_classes(sets, tmp_path, caplog):
    subset = sets("subset", ["bright", "dark"], classes=["dark"])
    with caplog.at_level("INFO", logger="rcnnkit"):
        serve_with_classes(["first"], [subset], unite(["first"]))
    assert "subset: has 1 of the model's 2 classes; without bright" in caplog.text
    assert categories("subset") == [1]
    content = written("subset", tmp_path / "inference")
    assert [category["name"] for category in content["categories"]] == ["bright", "dark"]
    assert {annotation["category_id"] for annotation in content["annotations"]} == {2}
    evaluator = COCOEvaluator("subset", output_dir=str(tmp_path))
    evaluator.reset()


def test_another_order_is_mapped(sets, tmp_path):
    other = sets("other", ["dark", "bright"])
    serve_with_classes(["first"], [other], unite(["first"]))
    assert categories("other") == [1, 0] and needs_evaluation_file("other")


def test_ignored_objects_are_crowds_of_each_class_in_the_evaluation(sets, tmp_path):
    sets("other", ["bright", "dark"], ignore=["bright"])
    serve_with_classes(["first"], ["other"], unite(["first"]))
    content = written("other", tmp_path)
    first = [a for a in content["annotations"] if a["image_id"] == content["images"][0]["id"]]
    assert [(a["category_id"], a["iscrowd"]) for a in first] == [(1, 1), (2, 1), (2, 0)]


def test_a_second_run_writes_into_its_own_folder(sets, tmp_path):
    sets("other", ["dark", "bright"])
    serve_with_classes(["first"], ["other"], unite(["first"]))
    for run in ("a", "b"):
        written("other", tmp_path / run)
        assert needs_evaluation_file("other")
        assert MetadataCatalog.get("other").json_file == str(tmp_path / run / "other_coco_format.json")


def test_file_names_of_paths():
    assert file_slug("parts_val") == "parts_val"
    assert file_slug("/data/parts@val").startswith("data_parts_val_") and "/" not in file_slug("/data/parts@val")
    assert file_slug("/data/parts@val") != file_slug("/data/parts/val") and len(file_slug("/x" * 200)) < 80
