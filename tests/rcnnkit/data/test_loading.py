"""Which images a training draws, how often, and what is told of the objects that are left out."""

import itertools
import logging
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from rcnnkit.config import add_rcnnkit_config, validate_config
from rcnnkit.data.loading import (
    TellingLoader,
    build_train_loader,
    build_training_sampler,
    training_class_counts,
    training_records,
    with_negatives,
)
from rcnnkit.errors import UserError
from tests.rcnnkit.runs import forget_data

BOX = {"category_id": 0, "bbox": [2, 2, 12, 12], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}


@pytest.fixture
def data(tmp_path):
    """Data sets `own` (read by rcnnkit) and `catalogued`: five images each, two of them without objects."""
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(path)
    objects = [[BOX], [], [BOX, {**BOX, "iscrowd": 1}], [{**BOX, "iscrowd": 1}], [BOX]]
    records = [
        {"file_name": str(path), "height": 16, "width": 16, "image_id": number, "annotations": annotations}
        for number, annotations in enumerate(objects)
    ]
    for name in ("own", "catalogued"):
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).thing_classes = ["thing"]
    MetadataCatalog.get("own").data_format = "coco"
    yield records
    forget_data("own", "catalogued")


@pytest.fixture
def cfg(data):
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.DATASETS.TRAIN = ("own",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.INPUT.MIN_SIZE_TRAIN = (16,)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    return cfg


def drawn(cfg, count: int) -> Counter:
    return Counter(item["image_id"] for batch in itertools.islice(build_train_loader(cfg), count) for item in batch)


def test_images_without_objects_stay_in_data_that_rcnnkit_reads(cfg):
    assert [r["image_id"] for r in training_records(cfg)] == [0, 1, 2, 3, 4]
    assert build_training_sampler(cfg, training_records(cfg)) is None
    assert drawn(cfg, 10) == dict.fromkeys(range(5), 2)


def test_catalogued_data_are_filtered_as_in_detectron2(cfg):
    cfg.DATASETS.TRAIN = ("catalogued", "own")
    assert [r["image_id"] for r in training_records(cfg)] == [0, 2, 4, 0, 1, 2, 3, 4]
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(training_records(cfg)) == 10


def test_images_without_keypoints_stay_too(cfg):
    cfg.MODEL.KEYPOINT_ON = True
    assert len(training_records(cfg)) == 5


@pytest.mark.parametrize(
    "ratio, expected",
    [
        (0.0, [1, 0, 1, 0, 1]),
        (1.0, [1, 1.5, 1, 1.5, 1]),  # three images with objects: three draws shared by two without
        (4.0, [1, 6, 1, 6, 1]),
    ],
)
def test_ratio_of_images_without_objects(data, ratio, expected):
    assert with_negatives(torch.ones(5), data, ratio).tolist() == expected


def test_ratio_counts_repeated_images(data):
    factors = torch.tensor([2.0, 9.0, 1.0, 9.0, 3.0])
    assert with_negatives(factors, data, 0.5).tolist() == [2, 1.5, 1, 1.5, 3]
    assert factors.tolist() == [2, 9, 1, 9, 3]


def test_the_loader_keeps_the_ratio(cfg):
    cfg.RCNNKIT.NEGATIVES = 0.0
    assert set(drawn(cfg, 12)) == {0, 2, 4}
    cfg.RCNNKIT.NEGATIVES = 2.0
    counts = drawn(cfg, 90)  # rounds of nine: each image without objects three times
    assert counts == {0: 10, 2: 10, 4: 10, 1: 30, 3: 30}


def test_a_ratio_without_images_to_draw_warns(data, caplog):
    with caplog.at_level(logging.WARNING, "rcnnkit"):
        assert with_negatives(torch.ones(2), data[::2][:2], 1.0).tolist() == [1, 1]
    assert "there is none to draw" in caplog.text
    with pytest.raises(UserError, match="none of the 1 images has an object"):
        with_negatives(torch.ones(1), data[1:2], 1.0)


@pytest.mark.parametrize("ratio", [-2.0, -0.5, float("inf"), float("nan")])
def test_impossible_ratios_are_refused(cfg, ratio):
    cfg.RCNNKIT.NEGATIVES = ratio
    with pytest.raises(UserError, match=r"RCNNKIT\.NEGATIVES"):
        validate_config(cfg)


def test_a_ratio_needs_a_sampler_that_can_keep_it(cfg):
    cfg.RCNNKIT.NEGATIVES = 1.0
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    with pytest.raises(UserError, match="TrainingSampler or RepeatFactorTrainingSampler"):
        validate_config(cfg)


def items(*left_out: dict) -> list[list[dict]]:
    instances = Instances((4, 4), gt_boxes=Boxes(torch.zeros(2, 4)), gt_has_mask=torch.tensor([True, False]))
    return [[{"file_name": f"{n}.png", "instances": instances, "left_out": o}] for n, o in enumerate(left_out)]


def test_what_is_left_out_is_told_when_first_met_and_after_one_pass(caplog):
    loader = TellingLoader(items({}, {"crowd": 2}, {"crowd": 1, "flat": 1}, {"crowd": 5}), pass_length=3)
    with caplog.at_level(logging.INFO, "rcnnkit"):
        batches = list(loader)
    assert [record.message for record in caplog.records] == [
        "1.png: left out: 2 crowd (first met; totals follow)",
        "2.png: left out: 1 flat (first met; totals follow)",
        "the first 3 images: 6 objects to learn (3 with a mask); left out: 3 crowd, 1 flat",
    ]
    assert len(batches) == 4 and all("left_out" not in batch[0] for batch in batches)


def test_that_nothing_is_left_out_is_told_too(caplog, cfg):
    with caplog.at_level(logging.INFO, "rcnnkit"):
        drawn(cfg, 7)
    told = [record.message for record in caplog.records]
    assert told[0] == (
        "own: 5 images (2 without objects), 3 objects (3 with a box only, 0 with a mask, 0 with keypoints), "
        "2 crowd regions"
    )
    assert told[-1] == "the first 5 images: 3 objects to learn; left out: 2 crowd regions"


def test_objects_of_each_class_are_counted_without_crowds(cfg):
    assert training_class_counts(cfg) == [3]


def test_what_is_no_list_cannot_be_counted(cfg, monkeypatch):
    monkeypatch.setattr("rcnnkit.data.loading.training_records", lambda _: iter([]))
    with pytest.raises(UserError, match="class_balanced counts objects, but own is not a list of records; set it to"):
        training_class_counts(cfg)
