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
    with pytest.raises(AssertionError, match="no record of fruit"):
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


def by_getattr(owner: bytes, name: bytes) -> bytes:
    """A pickle that asks for an attribute of a class of `detectron2.structures.boxes`."""
    return b"cbuiltins\ngetattr\n(cdetectron2.structures.boxes\n" + owner + b"\nV" + name + b"\ntR."


def test_of_attributes_only_the_box_modes_are_looked_up(tmp_path):
    path = tmp_path / "proposals.pkl"
    path.write_bytes(by_getattr(b"BoxMode", b"XYXY_ABS"))
    with pytest.raises(TypeError, match="BoxMode"):  # read, but no dictionary
        load_proposals_into_dataset([record(3)], str(path))
    path.write_bytes(by_getattr(b"BoxMode", b"__class__"))
    with pytest.raises(pickle.UnpicklingError, match="__class__"):
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
    with pytest.raises(ValueError, match="say the same"):
        build_batch_data_loader([0], TrainingSampler(1), 2, single_gpu_batch_size=2)
    with pytest.raises(AssertionError, match="not a positive multiple"):
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


def endless_ids(loader, number):
    batches = iter(loader)
    return [item["image_id"] for _ in range(number) for item in next(batches)]


def quiet_config(fruit):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (fruit,)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    return cfg


def test_random_subset_by_config(fruit):
    cfg = quiet_config(fruit)
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    with pytest.raises(ValueError, match=r"DATALOADER\.RANDOM_SUBSET_RATIO is not set"):
        build_detection_train_loader(cfg, mapper=dict)
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    # two of the four images that have objects, again and again
    assert len(set(endless_ids(build_detection_train_loader(cfg, mapper=dict), 20))) == 2


def test_repeat_factor_by_config(fruit):
    cfg = quiet_config(fruit)
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 4.5
    cfg.DATALOADER.REPEAT_SQRT = False
    # apples are in 3/4 of the images, pears in 2/4: factors 6 and 9; images 0 and 3 have apples only
    seen = endless_ids(build_detection_train_loader(cfg, mapper=dict), 15)
    assert {i: seen.count(i) for i in (0, 2, 3, 4)} == {0: 6, 2: 9, 3: 6, 4: 9}


@pytest.mark.parametrize(("by_category", "more"), [(False, 1), (True, 6)])
def test_weighted_samplers_by_config(fruit, by_category, more):
    DatasetCatalog.register("more", lambda: [record(100 + i, 0, file_name="b.png") for i in range(4)])
    MetadataCatalog.get("more").thing_classes = ["apple", "pear"]
    try:
        cfg = quiet_config(fruit)
        cfg.DATASETS.TRAIN = (fruit, "more")
        cfg.DATASETS.TRAIN_REPEAT_FACTOR = [[fruit, 2.0]]
        cfg.DATALOADER.SAMPLER_TRAIN = "Weighted" + ("Category" if by_category else "") + "TrainingSampler"
        cfg.DATALOADER.REPEAT_THRESHOLD = 6.0
        cfg.DATALOADER.REPEAT_SQRT = False
        # by category: "fruit" has apples in 3/4, pears in 2/4 of its images (factors 8 and 12), "more" has apples (6)
        factors = {0: 16, 2: 24, 3: 16, 4: 24} if by_category else dict.fromkeys((0, 2, 3, 4), 2)
        factors |= dict.fromkeys(range(100, 104), more)
        seen = endless_ids(build_detection_train_loader(cfg, mapper=dict), sum(factors.values()) // 2)
        assert {i: seen.count(i) for i in factors} == factors
    finally:
        DatasetCatalog.remove("more")
        MetadataCatalog.remove("more")


def test_repeat_factor_of_an_unknown_dataset(fruit):
    cfg = quiet_config(fruit)
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [["fruits", 2.0]]
    cfg.DATALOADER.SAMPLER_TRAIN = "WeightedTrainingSampler"
    with pytest.raises(AssertionError, match=r"'fruits', which is not in DATASETS\.TRAIN"):
        build_detection_train_loader(cfg, mapper=dict)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        for i in range(7):
            yield {"image_id": i, "width": 9, "height": 6}


def test_iterable_datasets():
    def even(item):
        return item if item["image_id"] % 2 == 0 else None

    loader = build_detection_train_loader(Stream(), mapper=even, total_batch_size=2, aspect_ratio_grouping=False)
    # 0, 2, 4 and 6: odd ones are left out
    assert [[item["image_id"] for item in batch] for batch in loader] == [[0, 2], [4, 6]]
    grouped = build_detection_train_loader(Stream(), mapper=dict, total_batch_size=3)
    assert [len(batch) for batch in grouped] == [3, 3]
    tested = build_detection_test_loader(Stream(), mapper=dict)
    assert [batch[0]["image_id"] for batch in tested] == list(range(7))
    for build in (build_detection_train_loader, build_detection_test_loader):
        batch = {"total_batch_size": 2} if build is build_detection_train_loader else {}
        with pytest.raises(AssertionError, match="sampler"):
            build(Stream(), mapper=dict, sampler=TrainingSampler(7), **batch)


def test_iterable_dataset_through_the_config(fruit):
    cfg = quiet_config(fruit)
    loader = build_detection_train_loader(cfg, dataset=Stream(), mapper=dict)
    assert [[item["image_id"] for item in batch] for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_proposals_through_the_config(fruit, tmp_path):
    ids = list(range(5))
    boxes = [np.array([[0, 0, 4, 4], [1, 1, 8, 5], [2, 2, 2, 2]], dtype=np.float32) + i / 10 for i in ids]
    scores = [np.array([0.1, 0.9, 0.5], dtype=np.float32)] * 5
    path = tmp_path / "proposals.pkl"
    path.write_bytes(
        pickle.dumps({"ids": ids[::-1], "boxes": boxes[::-1], "objectness_logits": scores, "bbox_mode": 0})
    )
    cfg = quiet_config(fruit)
    cfg.MODEL.LOAD_PROPOSALS = True
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = (str(path),)
    cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST = 1
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.RANDOM_FLIP = (12,), 12, "none"
    for item in next(iter(build_detection_train_loader(cfg))):
        # the empty box is left out; the image is twice as large
        shift = item["image_id"] / 10
        expected = 2 * (torch.tensor([[1, 1, 8, 5], [0, 0, 4, 4]]) + shift)
        torch.testing.assert_close(item["proposals"].proposal_boxes.tensor, expected)
        assert item["proposals"].objectness_logits.tolist() == pytest.approx([0.9, 0.1])
    for (item,) in build_detection_test_loader(cfg, fruit):
        assert len(item["proposals"]) == 1
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = (str(path), str(path))
    with pytest.raises(AssertionError, match="1 datasets but 2 proposal files"):
        build_detection_train_loader(cfg)


def test_proposal_file_canary(tmp_path):
    import os

    canary = tmp_path / "ran"

    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"ids": Runs()}))
    with pytest.raises(pickle.UnpicklingError, match="system"):
        load_proposals_into_dataset([record(3)], str(path))
    assert not canary.exists()
