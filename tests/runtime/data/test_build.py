import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from detectron2.data.samplers import RandomSubsetTrainingSampler, TrainingSampler
from detectron2.structures import BoxMode


def record(image_id, *classes, crowd=0, **rest):
    annotations = [
        {"category_id": c, "iscrowd": crowd, "bbox": [1, 1, 4, 4], "bbox_mode": BoxMode.XYWH_ABS} for c in classes
    ]
    return {"image_id": image_id, "width": 9, "height": 6, "annotations": annotations, **rest}


@pytest.fixture
def fruit(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(path)
    records = [record(i, *classes, file_name=str(path)) for i, classes in enumerate([(0,), (), (1, 1), (0,), (0, 1)])]
    DatasetCatalog.register("fruit", lambda: records)
    MetadataCatalog.get("fruit").thing_classes = ["apple", "pear"]
    yield "fruit"
    DatasetCatalog.remove("fruit")
    MetadataCatalog.remove("fruit")


def test_filters():
    records = [record(0, 1), record(1), record(2, 0, crowd=1)]
    assert [r["image_id"] for r in filter_images_with_only_crowd_annotations(records)] == [0]
    records[0]["annotations"][0]["keypoints"] = [1, 1, 2, 3, 3, 0, 5, 5, 1]
    assert [r["image_id"] for r in filter_images_with_few_keypoints(records, 2)] == [0]
    assert filter_images_with_few_keypoints(records, 3) == []


def test_dataset_dicts(fruit):
    assert [r["image_id"] for r in get_detection_dataset_dicts(fruit)] == [0, 2, 3, 4]
    assert len(get_detection_dataset_dicts([fruit, fruit], filter_empty=False)) == 10
    with pytest.raises(AssertionError, match="No valid data found in fruit"):
        get_detection_dataset_dicts(fruit, min_keypoints=1)
    with pytest.raises(AssertionError, match="no dataset is named"):
        get_detection_dataset_dicts([])


def test_histogram_refuses_unknown_classes():
    print_instances_class_histogram([record(0, 0, 1)], ["apple", "pear"])
    with pytest.raises(ValueError, match=r"^b.jpg: category_id 2 \(image_id 5\) is not in \[0, 2\)"):
        print_instances_class_histogram([record(5, 2, file_name="b.jpg")], ["apple", "pear"])


def test_proposals_best_first_and_plain_data_only(tmp_path):
    path = tmp_path / "proposals.pkl"
    boxes = np.arange(8.0).reshape(2, 4)
    content = {"indexes": [3], "boxes": [boxes], "scores": [np.array([0.1, 0.9])], "bbox_mode": BoxMode.XYXY_ABS}
    path.write_bytes(pickle.dumps(content))
    loaded = load_proposals_into_dataset([record(3)], str(path))[0]
    np.testing.assert_array_equal(loaded["proposal_boxes"], boxes[::-1])
    np.testing.assert_array_equal(loaded["proposal_objectness_logits"], [0.9, 0.1])
    with pytest.raises(ValueError, match="no proposals for image_id 9"):
        load_proposals_into_dataset([record(9)], str(path))
    path.write_bytes(pickle.dumps({"ids": print}))
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        load_proposals_into_dataset([record(3)], str(path))


def test_train_loader_groups_by_shape_and_repeats_for_a_seed():
    records = [{"id": i, "width": 2 - i % 2, "height": 1 + i % 2} for i in range(8)]

    def first_batches(**options):
        loader = build_detection_train_loader(
            records, mapper=dict, sampler=TrainingSampler(8, seed=1), total_batch_size=2, **options
        )
        batches = iter(loader)
        return [[r["id"] for r in next(batches)] for _ in range(5)]

    for batch in first_batches():
        assert batch[0] % 2 == batch[1] % 2
    assert first_batches() == first_batches()
    ungrouped = [i for batch in first_batches(aspect_ratio_grouping=False) for i in batch]
    stream = iter(TrainingSampler(8, seed=1))
    assert ungrouped == [next(stream) for _ in range(10)]


def test_collate_and_single_process_batch_size():
    loader = build_batch_data_loader(
        list(range(5)), TrainingSampler(5, shuffle=False), 0, single_gpu_batch_size=2, collate_fn=sum, seed=3
    )
    batches = iter(loader)
    assert [next(batches) for _ in range(3)] == [1, 5, 4]
    with pytest.raises(ValueError, match="mutually incompatible"):
        build_batch_data_loader([0], TrainingSampler(1), 2, single_gpu_batch_size=2)
    with pytest.raises(AssertionError, match="divisible"):
        build_batch_data_loader([0], TrainingSampler(1), 0)
    grouped = build_batch_data_loader(
        [{"width": 1, "height": 2}] * 2, TrainingSampler(2), 2, aspect_ratio_grouping=True, collate_fn=len
    )
    assert next(iter(grouped)) == 2


def test_loaders_from_config(fruit):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (fruit,)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (12,)
    cfg.INPUT.MIN_SIZE_TEST = 12
    torch.manual_seed(0)
    batch = next(iter(build_detection_train_loader(cfg)))
    assert [tuple(item["image"].shape) for item in batch] == [(3, 12, 18)] * 2
    test_loader = build_detection_test_loader(cfg, fruit)
    assert [item["image_id"] for batch in test_loader for item in batch] == [0, 1, 2, 3, 4]
    assert len(test_loader) == 5


def test_sampler_by_name(fruit):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (fruit,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.9
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    assert next(iter(build_detection_train_loader(cfg, mapper=dict)))
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler2"
    with pytest.raises(ValueError, match="unknown sampler 'TrainingSampler2'; there are TrainingSampler"):
        build_detection_train_loader(cfg, mapper=dict)
    subset = RandomSubsetTrainingSampler(5, 0.4, seed_shuffle=1, seed_subset=1)
    assert len(set(subset._indexes_subset.tolist())) == 2
