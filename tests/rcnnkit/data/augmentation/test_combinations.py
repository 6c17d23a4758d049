"""Copy-paste and mosaic from the config, in the mapper and in the loader: which records are drawn, and what stays."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetFromList, DatasetMapper, MetadataCatalog
from detectron2.structures import BoxMode
from rcnnkit.config import add_rcnnkit_config, validate_config
from rcnnkit.config_augmentation import check_augmentation_config
from rcnnkit.data.loading import build_train_loader, build_training_mapper
from rcnnkit.data.mapper import HIDDEN, LabelMapper
from rcnnkit.errors import UserError
from tests.rcnnkit.runs import forget_data

NAME = "augmentation_combinations_train"
VALUES = (50, 100, 150, 200)
COPY_PASTE, MOSAIC = "COPY_PASTE", "MOSAIC"


@pytest.fixture
def records(tmp_path):
    """Four images of one value each, 40 high and 50 to 80 wide, with one object; of the last an ignored one as well."""
    made = []
    for number, value in enumerate(VALUES):
        width, side = 50 + 10 * number, 10 + 2 * number
        path = tmp_path / f"{value}.png"
        Image.fromarray(np.full((40, width, 3), value, dtype=np.uint8)).save(path)
        corners = [4.0, 4.0, 4.0 + side, 4.0, 4.0 + side, 4.0 + side, 4.0, 4.0 + side]
        an_object = {
            "category_id": number,
            "bbox": [4, 4, side, side],
            "bbox_mode": BoxMode.XYWH_ABS,
            "segmentation": [corners],
            "keypoints": [5, 5, 2, 6, 6, 2],
            "iscrowd": 0,
        }
        record = {"file_name": str(path), "height": 40, "width": width, "image_id": value}
        made.append({**record, "annotations": [an_object]})
    made[3]["annotations"].append({**an_object, "bbox": [30, 4, 8, 8], "ignore": 1})
    return made


@pytest.fixture
def cfg(records):
    """Masks and keypoints; images keep their size."""
    DatasetCatalog.register(NAME, lambda: records)
    metadata = MetadataCatalog.get(NAME)
    metadata.set(keypoint_names=["left", "right"], keypoint_flip_map=[("left", "right")], data_format="coco")
    metadata.thing_classes = ["a", "b", "c", "d"]
    made = get_cfg()
    add_rcnnkit_config(made)
    made.DATASETS.TRAIN = (NAME,)
    made.MODEL.ROI_HEADS.NUM_CLASSES, made.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 4, 2
    made.MODEL.MASK_ON = made.MODEL.KEYPOINT_ON = True
    made.INPUT.MASK_FORMAT, made.INPUT.MIN_SIZE_TRAIN, made.INPUT.RANDOM_FLIP = "bitmask", (0,), "none"
    made.DATALOADER.NUM_WORKERS, made.SOLVER.IMS_PER_BATCH = 0, 1
    made.RCNNKIT.AUGMENTATION.COPY_PASTE.BLEND_SIGMA = 0.0
    yield made
    forget_data(NAME)


def switched_on(cfg, *sections):
    for section in sections:
        cfg.RCNNKIT.AUGMENTATION[section].PROB = 1.0
    return cfg


def mapped(cfg, records, index=0, seed=0) -> dict:
    np.random.seed(seed)  # noqa: NPY002 — Detectron2's augmentations draw from it
    return build_training_mapper(cfg, DatasetFromList(records, copy=False))(records[index])


def same(one: dict, other: dict) -> bool:
    fields, others = one["instances"].get_fields(), other["instances"].get_fields()
    values, more = ([getattr(field, "tensor", field) for field in f.values()] for f in (fields, others))
    return (
        one.keys() == other.keys()
        and torch.equal(one["image"], other["image"])
        and fields.keys() == others.keys()
        and all(map(torch.equal, values, more))
    )


def test_off_is_what_detectron2_does_to_the_byte_and_draws_no_more(cfg, records):
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN = "horizontal", (30, 45, 60)
    for index, seed in itertools.product(range(3), range(3)):
        found = mapped(cfg, records, index, seed)
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        expected = DatasetMapper(cfg, True)(records[index])
        assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
        assert torch.equal(found["image"], expected["image"])
        for field in ("gt_boxes", "gt_masks", "gt_keypoints"):
            assert torch.equal(found["instances"].get(field).tensor, expected["instances"].get(field).tensor)


@pytest.mark.parametrize("section", [COPY_PASTE, MOSAIC])
def test_a_probability_that_is_not_met_leaves_the_item_as_it_is(cfg, records, section):
    plain = mapped(cfg, records, 3)
    cfg.RCNNKIT.AUGMENTATION[section].PROB = 1e-9
    assert same(mapped(cfg, records, 3), plain)


def test_any_record_is_pasted_with_its_own_augmentation(cfg, records):
    switched_on(cfg, COPY_PASTE).INPUT.RANDOM_FLIP = "horizontal"
    found, lefts = set(), set()
    for seed in range(40):
        item = mapped(cfg, records, 0, seed)
        instances = item["instances"]
        category = int(instances.gt_classes[-1])
        mask = instances.gt_masks.tensor[-1]
        assert (item["image"][:, mask] == VALUES[category]).all()
        assert int(mask.sum()) == (10 + 2 * category) ** 2 or category, "an image of the same size is not cut"
        found.add(category)
        lefts.add((float(instances.gt_boxes.tensor[-1, 0]), category))
        assert item["image_id"] == 50
        assert "ignored" not in item or "left_out" in item, "only what is still seen of a hidden object"
    assert found == {0, 1, 2, 3}
    assert {left for left, category in lefts if category == 0} == {4, 36}


def test_what_is_hidden_is_counted_and_keypoints_come_along(cfg, records):
    item = mapped(switched_on(cfg, COPY_PASTE), records[:1])  # the image onto itself: its object covers itself
    assert item["instances"].gt_keypoints.tensor.tolist() == [[[5, 5, 2], [6, 6, 2]]]
    assert item["left_out"] == {HIDDEN: 1}


def test_mosaic_draws_any_three_others(cfg, records):
    switched_on(cfg, MOSAIC)
    items = [mapped(cfg, records, 3, seed) for seed in range(30)]
    assert all(item["image"].shape == (3, 40, 80) for item in items)
    values = [set(item["image"].unique().tolist()) for item in items]
    assert all(200 in found for found in values)
    assert set.union(*values) == {*VALUES, 128}
    assert {len(item.get("ignored", ())) for item in items} >= {0, 1}
    for item in items:
        instances = item["instances"]
        for category, mask in zip(instances.gt_classes.tolist(), instances.gt_masks.tensor, strict=True):
            assert (item["image"][:, mask] == VALUES[category]).all()


def test_other_images_may_have_no_annotations_and_no_objects(cfg, records):
    switched_on(cfg, COPY_PASTE, MOSAIC)
    alone = {key: value for key, value in records[0].items() if key != "annotations"}
    empty = {**records[0], "annotations": []}
    mapper = build_training_mapper(cfg, [alone])
    assert len(mapper(empty)["instances"]) == 0
    assert "instances" not in mapper(alone), "an image that nobody has labelled stays as it is"
    assert len(build_training_mapper(cfg, [records[0]])(empty)["instances"]) > 0


@pytest.mark.parametrize("sections", [(COPY_PASTE,), (MOSAIC,), (COPY_PASTE, MOSAIC)])
def test_determinism_by_seed(cfg, records, sections):
    switched_on(cfg, *sections)
    items = [mapped(cfg, records, 1, seed) for seed in (*range(8), *range(8))]
    assert all(same(one, other) for one, other in zip(items[:8], items[8:], strict=True))
    assert len({item["image"].numpy().tobytes() for item in items}) > 4


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
def test_the_loader_gives_combined_images(cfg, workers, sampler):
    switched_on(cfg, COPY_PASTE, MOSAIC)
    cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.SAMPLER_TRAIN, cfg.SEED = workers, sampler, 3
    items = [item for batch in itertools.islice(build_train_loader(cfg), 8) for item in batch]
    assert {item["image_id"] for item in items} == set(VALUES)
    assert sum(len(set(item["image"].unique().tolist()) - {128}) > 1 for item in items) >= 7
    assert len({item["image"].numpy().tobytes() for item in items}) == 8, "no worker repeats another's draws"


def test_records_are_serialised_once_and_kept_only_where_they_are_needed(cfg, monkeypatch):
    made = []

    class Counted(DatasetFromList):
        def __init__(self, *arguments, **more):
            made.append(self)
            super().__init__(*arguments, **more)

    monkeypatch.setattr("rcnnkit.data.loading.DatasetFromList", Counted)
    mappers = []
    original = LabelMapper.__init__
    monkeypatch.setattr(
        LabelMapper, "__init__", lambda self, *a, **more: (mappers.append(self), original(self, *a, **more))[0]
    )
    build_train_loader(cfg)
    build_train_loader(switched_on(cfg, COPY_PASTE))
    assert len(made) == 2
    assert len(mappers[0].other_records) == 0 and mappers[1].other_records is made[1]


def test_records_in_one_order_only_are_refused(cfg):
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return itertools.repeat({})

    assert build_training_mapper(cfg, Endless()).combinations == []
    with pytest.raises(UserError, match="gives its images in one order only"):
        build_training_mapper(switched_on(cfg, MOSAIC), Endless())


def test_a_mapper_without_other_records_says_what_it_needs(cfg):
    with pytest.raises(UserError, match="give the mapper other_records"):
        LabelMapper(switched_on(cfg, COPY_PASTE), True)
    assert LabelMapper(cfg, False).combinations == [], "tests put nothing together"


def test_segmentations_of_the_whole_image_are_refused(cfg, records, tmp_path):
    Image.new("L", (50, 40)).save(tmp_path / "whole.png")
    records[0]["sem_seg_file_name"] = str(tmp_path / "whole.png")
    with pytest.raises(UserError, match=r"50\.png: has a segmentation of the whole image"):
        mapped(switched_on(cfg, MOSAIC), records)


@pytest.mark.parametrize(
    "key, value, named",
    [
        ("COPY_PASTE.PROB", 1.5, "COPY_PASTE.PROB: 1.5"),
        ("COPY_PASTE.MAX_OBJECTS", 0, "COPY_PASTE.MAX_OBJECTS: 0"),
        ("COPY_PASTE.BLEND_SIGMA", -1.0, "COPY_PASTE.BLEND_SIGMA: -1.0"),
        ("COPY_PASTE.BLEND_SIGMA", float("nan"), "COPY_PASTE.BLEND_SIGMA: nan"),
        ("MOSAIC.PROB", -0.5, "MOSAIC.PROB: -0.5"),
        ("MOSAIC.CENTER", (0.0, 0.5), "MOSAIC.CENTER"),
        ("MOSAIC.CENTER", (0.6, 0.5), "MOSAIC.CENTER"),
        ("MOSAIC.CENTER", (0.5,), "MOSAIC.CENTER"),
        ("MIN_LEFT_SHARE", 1.5, "MIN_LEFT_SHARE: 1.5"),
        ("MIN_LEFT_PIXELS", 0, "MIN_LEFT_PIXELS: 0"),
    ],
)
def test_values_out_of_range_are_named(cfg, key, value, named):
    validate_config(cfg)
    cfg.merge_from_list([f"RCNNKIT.AUGMENTATION.{key}", value])
    with pytest.raises(UserError) as told:
        validate_config(cfg)
    assert named in str(told.value)


@pytest.mark.parametrize("section", [COPY_PASTE, MOSAIC])
def test_masks_must_be_bitmasks_and_proposals_cannot_be_moved(cfg, section):
    check_augmentation_config(switched_on(cfg, section))
    cfg.INPUT.MASK_FORMAT = "polygon"
    with pytest.raises(UserError, match=f"{section}.*INPUT.MASK_FORMAT is polygon; set it to bitmask"):
        check_augmentation_config(cfg)
    cfg.INPUT.MASK_FORMAT, cfg.MODEL.LOAD_PROPOSALS = "bitmask", True
    with pytest.raises(UserError, match=f"{section}.*LOAD_PROPOSALS"):
        check_augmentation_config(cfg)


def test_copy_paste_needs_masks_and_mosaic_does_not(cfg):
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = False, "polygon"
    check_augmentation_config(switched_on(cfg, MOSAIC))
    with pytest.raises(UserError, match=r"COPY_PASTE.*MODEL\.MASK_ON is False"):
        check_augmentation_config(switched_on(cfg, COPY_PASTE))


@pytest.mark.parametrize("masks", [True, False])
def test_mosaic_of_boxes_and_keypoints(cfg, records, masks):
    switched_on(cfg, MOSAIC)
    cfg.MODEL.MASK_ON = masks
    for seed in range(10):
        instances = mapped(cfg, records, 0, seed)["instances"]
        assert instances.has("gt_masks") is masks
        for box, points in zip(instances.gt_boxes.tensor, instances.gt_keypoints.tensor, strict=True):
            seen = points[points[:, 2] > 0, :2]
            assert ((seen >= box[:2]) & (seen <= box[2:])).all()


def test_ignored_regions_that_a_mosaic_does_not_show_are_gone(cfg, records):
    """The region of record 3, pixels of value 200, is where these are shown, or nowhere."""
    own = switched_on(cfg, MOSAIC).RCNNKIT.AUGMENTATION
    own.MIN_LEFT_SHARE, own.MIN_LEFT_PIXELS = 0.0, 1  # objects leave no region of their own
    records[3]["annotations"] = [records[3]["annotations"][1]]
    gone = 0
    for seed in range(30):
        item = mapped(cfg, [records[0], records[3]], 1, seed)
        gone += "ignored" not in item
        for x0, y0, x1, y1 in item["ignored"].tensor.int().tolist() if "ignored" in item else ():
            assert (item["image"][:, y0:y1, x0:x1] == 200).all()
    assert 0 < gone < 30
