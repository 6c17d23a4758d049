import json

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import get_lvis_instances_meta, load_lvis_json, register_lvis_instances
from detectron2.data.datasets.lvis_v0_5_categories import LVIS_CATEGORIES as V0_5
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES as V1
from detectron2.data.datasets.lvis_v1_category_image_count import LVIS_CATEGORY_IMAGE_COUNT
from detectron2.data.detection_utils import get_fed_loss_cls_weights
from detectron2.structures import BoxMode

NAMES = (
    [f"lvis_v1_{split}" for split in ("train", "val", "test_dev", "test_challenge")]
    + [f"lvis_v0.5_{split}" for split in ("train", "val", "val_rand_100", "test", "train_cocofied", "val_cocofied")]
    + [f"voc_{year}_{split}" for year in (2007, 2012) for split in ("trainval", "train", "val")]
    + ["voc_2007_test"]
)


def content():
    polygon = [1, 1, 4, 1, 4, 4]
    return {
        "images": [
            {"id": 9, "coco_url": "http://x.org/val2017/000000000009.jpg", "height": 6, "width": 8}
            | {"neg_category_ids": [3], "not_exhaustive_category_ids": [1]},
            {"id": 2, "file_name": "COCO_train2014_000000000002.jpg", "height": 6, "width": 8},
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 1, 3, 3], "area": 4.5, "segmentation": [polygon]},
        ],
        "categories": [{"id": 7, "name": "pear"}, {"id": 3, "name": "apple"}],
    }


def written(folder, value):
    path = folder / "lvis.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_category_tables():
    assert (len(V1), len(V0_5), len(LVIS_CATEGORY_IMAGE_COUNT)) == (1203, 1230, 1203)
    assert V1[0] == {
        "frequency": "c",
        "synset": "aerosol.n.02",
        "synonyms": ["aerosol_can", "spray_can"],
        "id": 1,
        "def": "a dispenser that holds a substance under pressure",
        "name": "aerosol_can",
    }
    for table in (V1, V0_5, LVIS_CATEGORY_IMAGE_COUNT):
        assert [row["id"] for row in table] == list(range(1, len(table) + 1))
    assert {row["frequency"] for row in V1} == {"r", "c", "f"}
    assert LVIS_CATEGORY_IMAGE_COUNT[-1] == {"id": 1203, "image_count": 81}


def test_registered_lazily_under_the_usual_names():
    assert set(NAMES) <= set(DatasetCatalog.list())
    metadata = MetadataCatalog.get("lvis_v1_val")
    assert metadata.evaluator_type == "lvis"
    assert metadata.json_file.endswith("lvis/lvis_v1_val.json")
    assert metadata.image_root.endswith("coco/")
    assert metadata.thing_classes[:2] == ["aerosol_can", "air_conditioner"]
    assert len(MetadataCatalog.get("lvis_v0.5_train").thing_classes) == 1230
    assert len(MetadataCatalog.get("lvis_v0.5_val_cocofied").thing_classes) == 80
    voc = MetadataCatalog.get("voc_2007_test")
    assert (voc.evaluator_type, voc.year, voc.split, len(voc.thing_classes)) == ("pascal_voc", 2007, "test", 20)


def test_metadata_by_name():
    assert set(get_lvis_instances_meta("lvis_v1_train")) == {"thing_classes", "class_image_count"}
    assert get_lvis_instances_meta("lvis_v1_train_cocofied")["thing_classes"][0] == "person"
    with pytest.raises(ValueError, match="lvis_v2"):
        get_lvis_instances_meta("lvis_v2")


def test_federated_loss_weights():
    weights = get_fed_loss_cls_weights("lvis_v1_train", 0.5)
    assert weights.shape == (1203,)
    # 64 training images have the first category, 364 the second
    assert weights[:2].tolist() == pytest.approx([8.0, 364**0.5])
    assert get_fed_loss_cls_weights(["lvis_v1_train"], 1.0)[0].item() == 64.0


def test_records(tmp_path):
    second, first = load_lvis_json(written(tmp_path, content()), "images", extra_annotation_keys=["area", "none"])[::-1]
    assert first == {
        "file_name": "images/000000000002.jpg",
        "height": 6,
        "width": 8,
        "image_id": 2,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "annotations": [],
    }
    assert second["file_name"] == "images/val2017/000000000009.jpg"
    assert (second["neg_category_ids"], second["not_exhaustive_category_ids"]) == ([3], [1])
    assert second["annotations"] == [
        {
            "bbox": [1, 1, 3, 3],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": 6,
            "segmentation": [[1, 1, 4, 1, 4, 4]],
            "area": 4.5,
        }
    ]


def test_own_data_in_lvis_format(tmp_path):
    name = "my_own_pears"
    id_map = {7: 0, 3: 1}
    register_lvis_instances(
        name,
        {"thing_classes": ["pear", "apple"], "thing_dataset_id_to_contiguous_id": id_map},
        written(tmp_path, content()),
        "images",
    )
    try:
        assert DatasetCatalog.get(name)[1]["annotations"][0]["category_id"] == 0
        assert MetadataCatalog.get(name).thing_classes == ["pear", "apple"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def broken(change):
    value = content()
    change(value)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"images": [', "not whole JSON"),
        ([1], "the top level is a list"),
        ({"images": []}, "no list 'categories'"),
        (broken(lambda v: v["annotations"][0].update(image_id=5)), "annotation with id 1 has image_id 5"),
        (broken(lambda v: v["annotations"][0].update(segmentation=[[1, 1, 2]])), "annotation with id 1 has a polygon"),
        (broken(lambda v: v["images"][0].pop("coco_url")), "image with id 9 has neither"),
        (broken(lambda v: v["images"][0].update(id=2)), "2 images share 1 ids"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path, value, message):
    path = written(tmp_path, value)
    with pytest.raises(ValueError, match=message) as error:
        load_lvis_json(path, "images")
    assert str(error.value).startswith(path)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_lvis_json(path + "x", "images")
