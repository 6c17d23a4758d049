import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata


@pytest.fixture
def registered():
    DatasetCatalog.register("apples_train", lambda: [{"image_id": 1}])
    yield "apples_train"
    DatasetCatalog.remove("apples_train")


def test_a_dataset_is_loaded_by_its_name(registered):
    assert DatasetCatalog.get(registered) == [{"image_id": 1}]
    assert registered in DatasetCatalog
    assert registered in DatasetCatalog.list()


def test_a_miss_lists_the_nearest_name_first(registered):
    with pytest.raises(KeyError) as error:
        DatasetCatalog.get("aples_train")
    assert "there are: apples_train," in str(error.value)
    assert "coco_2017_val" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_is_registered_once_and_with_a_function(registered):
    with pytest.raises(AssertionError, match="registered already"):
        DatasetCatalog.register(registered, list)
    with pytest.raises(AssertionError, match="needs a function"):
        DatasetCatalog.register("other", [])


def test_metadata_keeps_its_values():
    metadata = Metadata(name="m")
    metadata.set(thing_classes=["a"]).color = 3
    metadata.color = 3
    with pytest.raises(AssertionError, match="dataset 'm': 'color' is set already"):
        metadata.color = 4
    assert metadata.as_dict() == {"name": "m", "thing_classes": ["a"], "color": 3}
    assert metadata.get("none", 7) == 7
    del metadata.color
    metadata.color = 4
    assert metadata.color == 4


def test_metadata_miss_and_renamed_attribute():
    metadata = Metadata(name="m")
    with pytest.raises(AttributeError, match="nothing is known of it"):
        _ = metadata.thing_classes
    metadata.thing_classes = ["a"]
    assert metadata.class_names == ["a"]
    with pytest.raises(AttributeError, match="there are thing_classes, name"):
        _ = metadata.thing_clases


def test_metadata_catalog_makes_one_entry_per_name():
    assert MetadataCatalog.get("fresh_name") is MetadataCatalog.get("fresh_name")
    MetadataCatalog.remove("fresh_name")
    assert "fresh_name" not in MetadataCatalog.list()
    with pytest.raises(AssertionError):
        MetadataCatalog.get("")


def test_builtin_coco():
    metadata = MetadataCatalog.get("coco_2017_train")
    assert len(metadata.thing_classes) == len(metadata.thing_colors) == 80
    assert metadata.thing_dataset_id_to_contiguous_id[90] == 79
    assert metadata.json_file.endswith("coco/annotations/instances_train2017.json")
    person = MetadataCatalog.get("keypoints_coco_2017_val_100")
    assert person.json_file.endswith("coco/annotations/person_keypoints_val2017_100.json")
    assert person.image_root.endswith("coco/val2017")
    assert len(person.keypoint_names) == 17
    assert ("left_eye", "right_eye") in person.keypoint_flip_map
