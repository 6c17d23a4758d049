"""From the config to what the model sees, with boxes, masks and keypoints."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.config_augmentation import check_augmentation_config
from rcnnkit.data.augmentation import (
    CopyPaste,
    Mosaic,
    ObjectCrop,
    PhotometricJitter,
    RandomPolicy,
    RotateInFrame,
    build_policies,
)
from rcnnkit.data.augmentation.affine import rotation
from rcnnkit.data.mapper import LabelMapper
from rcnnkit.errors import UserError

NAME = "augmentation_policies_train"
SQUARE = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]


@pytest.fixture
def cfg():
    """Masks and two keypoints that are a pair; images stay as they are."""
    MetadataCatalog.pop(NAME, None)
    MetadataCatalog.get(NAME).set(keypoint_names=["left", "right"], keypoint_flip_map=[("left", "right")])
    made = get_cfg()
    add_rcnnkit_config(made)
    made.DATASETS.TRAIN = (NAME,)
    made.MODEL.MASK_ON = made.MODEL.KEYPOINT_ON = True
    made.INPUT.MIN_SIZE_TRAIN = (0,)
    made.INPUT.RANDOM_FLIP = "none"
    yield made
    MetadataCatalog.pop(NAME)


@pytest.fixture
def record(tmp_path):
    """60×40, white where the one object is; keypoints at its upper corners."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[10:30, 10:30] = 255
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    an_object = {
        "category_id": 0,
        "bbox": [10, 10, 30, 30],
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": SQUARE,
        "keypoints": [10, 10, 2, 30, 10, 2],
    }
    return {"file_name": str(path), "height": 40, "width": 60, "image_id": 1, "annotations": [an_object]}


def seeded(cfg, record, seed=0) -> dict:
    np.random.seed(seed)  # noqa: NPY002 — Detectron2's augmentations draw from it
    return LabelMapper(cfg, True)(record)


def test_by_default_nothing_changes(cfg, record):
    made = LabelMapper.from_config(cfg, True)
    assert [type(one) for one in made["augmentations"]] == [T.ResizeShortestEdge]
    assert not made["recompute_boxes"] and not made["augment_with_boxes"]


def test_all_in_order_and_none_in_tests(cfg):
    own = cfg.RCNNKIT.AUGMENTATION
    own.OBJECT_CROP.PROB = own.ROTATION.PROB = own.PHOTOMETRIC.PROB = 0.5
    own.RANDOM_POLICY.COUNT, own.SCALE_JITTER.ENABLED, cfg.INPUT.RANDOM_FLIP = 1, True, "horizontal"
    made = LabelMapper.from_config(cfg, True)
    assert [type(one) for one in made["augmentations"]] == [
        *(ObjectCrop, RotateInFrame, RandomPolicy, PhotometricJitter),
        *(T.ResizeScale, T.FixedSizeCrop, T.RandomFlip),
    ]
    assert made["recompute_boxes"] and made["augment_with_boxes"]
    assert [type(one) for one in LabelMapper.from_config(cfg, False)["augmentations"]] == [T.ResizeShortestEdge]


@pytest.mark.parametrize(
    "key, value, outlines",
    [
        ("ROTATION.PROB", 0.5, True),
        ("SCALE_JITTER.ENABLED", True, True),
        ("RANDOM_POLICY.COUNT", 1, True),
        ("OBJECT_CROP.PROB", 0.5, False),  # each object is whole or not there
        ("PHOTOMETRIC.PROB", 0.5, False),
        ("MOSAIC.PROB", 0.5, False),  # which takes its boxes itself
    ],
)
def test_each_policy_that_changes_outlines_has_boxes_taken_from_masks(cfg, key, value, outlines):
    cfg.merge_from_list([f"RCNNKIT.AUGMENTATION.{key}", value])
    assert build_policies(cfg, []).change_outlines is outlines
    assert LabelMapper.from_config(cfg, True)["recompute_boxes"] is outlines
    cfg.MODEL.MASK_ON = False
    assert not LabelMapper.from_config(cfg, True)["recompute_boxes"], "without masks there is nothing to take them from"


@pytest.mark.parametrize("operations, outlines", [(["color", "equalize"], False), (["color", "shear_y"], True)])
def test_a_policy_of_colours_changes_no_outlines(cfg, operations, outlines):
    cfg.RCNNKIT.AUGMENTATION.RANDOM_POLICY.COUNT, cfg.RCNNKIT.AUGMENTATION.RANDOM_POLICY.OPERATIONS = 2, operations
    assert build_policies(cfg, []).change_outlines is outlines


def test_what_is_pasted_lies_upon_the_mosaic(cfg):
    cfg.RCNNKIT.AUGMENTATION.COPY_PASTE.PROB = cfg.RCNNKIT.AUGMENTATION.MOSAIC.PROB = 0.5
    assert [type(one) for one in build_policies(cfg, []).combinations] == [Mosaic, CopyPaste]


OWN = "RCNNKIT.AUGMENTATION"
ALL_ON = (
    *(f"{OWN}.OBJECT_CROP.PROB", 0.11, f"{OWN}.ROTATION.PROB", 0.12, f"{OWN}.PHOTOMETRIC.PROB", 0.13),
    *(f"{OWN}.COPY_PASTE.PROB", 0.14, f"{OWN}.MOSAIC.PROB", 0.15, f"{OWN}.RANDOM_POLICY.COUNT", 1),
    *(f"{OWN}.SCALE_JITTER.ENABLED", True),
)


@pytest.mark.parametrize(
    "key, value, read",
    [
        (f"{OWN}.OBJECT_CROP.PROB", 0.7, {ObjectCrop: "prob"}),
        (f"{OWN}.OBJECT_CROP.SCALE", (0.4, 0.9), {ObjectCrop: "scale"}),
        (f"{OWN}.ROTATION.PROB", 0.7, {RotateInFrame: "prob"}),
        (f"{OWN}.ROTATION.DEGREES", (-3.0, 7.0), {RotateInFrame: "degrees"}),
        (f"{OWN}.PHOTOMETRIC.PROB", 0.7, {PhotometricJitter: "prob"}),
        (f"{OWN}.PHOTOMETRIC.BRIGHTNESS", 0.21, {PhotometricJitter: "brightness"}),
        (f"{OWN}.PHOTOMETRIC.CONTRAST", 0.22, {PhotometricJitter: "contrast"}),
        (f"{OWN}.PHOTOMETRIC.SATURATION", 0.23, {PhotometricJitter: "saturation"}),
        (f"{OWN}.PHOTOMETRIC.HUE", 24.0, {PhotometricJitter: "hue"}),
        (f"{OWN}.RANDOM_POLICY.COUNT", 3, {RandomPolicy: "count"}),
        (f"{OWN}.RANDOM_POLICY.MAGNITUDE", 2.5, {RandomPolicy: "magnitude"}),
        (f"{OWN}.RANDOM_POLICY.OPERATIONS", ("rotate", "color"), {RandomPolicy: "operations"}),
        (f"{OWN}.COPY_PASTE.PROB", 0.7, {CopyPaste: "prob"}),
        (f"{OWN}.COPY_PASTE.MAX_OBJECTS", 5, {CopyPaste: "max_objects"}),
        (f"{OWN}.COPY_PASTE.BLEND_SIGMA", 2.5, {CopyPaste: "blend_sigma"}),
        (f"{OWN}.MOSAIC.PROB", 0.7, {Mosaic: "prob"}),
        (f"{OWN}.MOSAIC.CENTER", (0.3, 0.6), {Mosaic: "center"}),
        (f"{OWN}.MIN_LEFT_SHARE", 0.25, {Mosaic: "least.share", CopyPaste: "least.share"}),
        (f"{OWN}.MIN_LEFT_PIXELS", 9, {Mosaic: "least.pixels", CopyPaste: "least.pixels"}),
        (f"{OWN}.FILL", 33.0, {RotateInFrame: "fill", RandomPolicy: "fill", Mosaic: "fill"}),
        ("INPUT.FORMAT", "RGB", {PhotometricJitter: "image_format", RandomPolicy: "image_format"}),
        (f"{OWN}.SCALE_JITTER.SCALE", (0.4, 1.7), {T.ResizeScale: "min_scale max_scale"}),
        (f"{OWN}.SCALE_JITTER.SIZE", (50, 70), {T.ResizeScale: "target_height target_width"}),
        (f"{OWN}.SCALE_JITTER.SIZE", (50, 70), {T.FixedSizeCrop: "crop_size"}),
    ],
)
def test_every_key_reaches_the_policy_that_it_is_of(cfg, key, value, read):
    """Before, the attribute has another value; after, no other attribute of any policy has changed."""

    def state() -> dict:
        made = build_policies(cfg, [T.ResizeShortestEdge(16)])
        found = {}
        for one in (*made.augmentations, *made.combinations):
            found.update({(type(one), name): entry for name, entry in vars(one).items() if name != "least"})
            if hasattr(one, "least"):
                found.update({(type(one), f"least.{name}"): getattr(one.least, name) for name in ("share", "pixels")})
        return found

    cfg.merge_from_list(ALL_ON)
    before = state()
    cfg.merge_from_list([key, value])
    after = state()
    differing = {place for place in after if after[place] != before[place]}
    expected = {(kind, name): value for kind, names in read.items() for name in names.split()}
    for kind, names in read.items():
        if " " in names:  # a pair that the policy keeps as two numbers
            expected.update(zip([(kind, name) for name in names.split()], value, strict=True))
    assert {place: after[place] for place in expected} == expected
    if key.endswith("SCALE_JITTER.SIZE"):
        assert {kind for kind, _ in differing} == {T.ResizeScale, T.FixedSizeCrop}
    else:
        assert differing == set(expected)


@pytest.mark.parametrize("fill", [0.0, 128.0])
def test_masks_of_run_lengths_are_empty_where_a_rotation_shows_what_is_outside(cfg, record, fill):
    """The fill is one of pixels: a mask filled with it would have the corners of the image, and its box all of it."""
    own = cfg.RCNNKIT.AUGMENTATION
    own.ROTATION.PROB, own.ROTATION.DEGREES, own.FILL = 1.0, (45.0, 45.0), fill
    cfg.INPUT.MASK_FORMAT = "bitmask"
    mask = np.zeros((40, 60), dtype=np.uint8, order="F")
    mask[10:30, 20:40] = 1
    record["annotations"][0].update(segmentation=mask_util.encode(mask), bbox=[20, 10, 40, 30])
    instances = seeded(cfg, record)["instances"]
    # the square of 20 about the middle, on its corner: a diagonal of √800 = 28.3 in both directions
    assert instances.gt_boxes.tensor[0].tolist() == pytest.approx([15.9, 5.9, 44.1, 34.1], abs=1)
    [found] = instances.gt_masks.tensor
    assert int(found.sum()) == pytest.approx(400, abs=20)
    y, x = np.argwhere(found.numpy()).T + 0.5
    assert (np.abs(x - 30) + np.abs(y - 20)).max() < 200**0.5 + 1


def test_a_quarter_turn_of_all_labels(cfg, record):
    own = cfg.RCNNKIT.AUGMENTATION
    own.ROTATION.PROB, own.ROTATION.DEGREES, own.FILL = 1.0, (90.0, 90.0), 0.0
    item = seeded(cfg, record)
    instances = item["instances"]
    # about (30, 20): (x, y) → (30 + (y - 20), 20 - (x - 30)); of y only 0 to 40 stays: the square reaches 20 to 40
    assert instances.gt_boxes.tensor[0].tolist() == pytest.approx([20, 20, 40, 40], abs=1e-4)
    assert instances.gt_keypoints.tensor[0].flatten().tolist() == pytest.approx([20, 40, 2, 20, 20, 2], abs=1e-4)
    assert item["image"].shape == (3, 40, 60)
    white = np.argwhere(item["image"][0].numpy() > 127)
    assert white.min(axis=0).tolist() == [20, 20] and white.max(axis=0).tolist() == [39, 39]


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("seed", range(12))
def test_labels_lie_on_their_pixels_whatever_is_drawn(cfg, record, mask_format, seed):
    own = cfg.RCNNKIT.AUGMENTATION
    own.OBJECT_CROP.PROB, own.ROTATION.PROB, own.ROTATION.DEGREES, own.FILL = 0.5, 0.7, (-60.0, 60.0), 0.0
    own.RANDOM_POLICY.COUNT = 2
    own.RANDOM_POLICY.OPERATIONS = ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"]
    own.SCALE_JITTER.ENABLED, own.SCALE_JITTER.SCALE, own.SCALE_JITTER.SIZE = True, (0.5, 1.3), (60, 70)
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MASK_FORMAT = "horizontal", mask_format
    item = seeded(cfg, record, seed)
    white = np.argwhere(item["image"][0].numpy() > 127)
    instances = item["instances"]
    assert item["image"].shape[1:] == instances.image_size
    if not len(white):
        assert not len(instances) or float(instances.gt_boxes.area().max()) < 4
        return
    (y0, x0), (y1, x1) = white.min(axis=0), white.max(axis=0) + 1
    assert instances.gt_boxes.tensor[0].tolist() == pytest.approx([x0, y0, x1, y1], abs=3)
    height, width = instances.image_size
    for x, y, visible in instances.gt_keypoints.tensor[0].tolist():
        assert 0 <= x <= width and 0 <= y <= height
        if visible:
            assert np.abs(white[:, ::-1] + 0.5 - (x, y)).max(axis=1).min() < 4


def test_keypoints_swap_in_mirrored_images_after_other_moves(cfg, record):
    own = cfg.RCNNKIT.AUGMENTATION
    own.RANDOM_POLICY.COUNT, own.RANDOM_POLICY.OPERATIONS, own.RANDOM_POLICY.MAGNITUDE = 1, ["shear_x"], 0.0
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    found = {
        tuple(seeded(cfg, record, seed)["instances"].gt_keypoints.tensor[0].flatten().tolist()) for seed in range(12)
    }
    # the mirrored right point, 60 - 30, takes the left one's place
    assert found == {(10, 10, 2, 30, 10, 2), (30, 10, 2, 50, 10, 2)}


def test_objects_that_left_the_image_are_no_instances(cfg, record):
    own = cfg.RCNNKIT.AUGMENTATION
    own.ROTATION.PROB, own.ROTATION.DEGREES = 1.0, (90.0, 90.0)
    one = {"category_id": 0, "bbox": [0, 0, 8, 40], "bbox_mode": BoxMode.XYXY_ABS}
    record["annotations"] = [one, {**one, "iscrowd": 1, "segmentation": []}]
    item = seeded(cfg, record)
    assert len(item["instances"]) == 0 and len(item["ignored"]) == 0


@pytest.mark.parametrize("degrees", [10.0, 30.0, -75.0])
def test_what_is_ignored_stays_so_when_it_is_turned(cfg, record, degrees):
    own = cfg.RCNNKIT.AUGMENTATION
    own.ROTATION.PROB, own.ROTATION.DEGREES = 1.0, (degrees, degrees)
    height, width = record["height"], record["width"]
    box = [0.3 * width, 0.3 * height, 0.6 * width, 0.5 * height]
    record["annotations"] = [{"category_id": 0, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 1}]
    [found] = seeded(cfg, record)["ignored"].tensor.tolist()
    x, y = (axis.flatten() for axis in np.meshgrid(np.linspace(box[0], box[2], 9), np.linspace(box[1], box[3], 9)))
    points = rotation(height, width, degrees).apply_coords(np.stack([x, y], axis=1))
    points = points[~np.isnan(points).any(axis=1)]
    assert len(points) > 20
    assert (points >= np.array(found[:2]) - 1e-3).all() and (points <= np.array(found[2:]) + 1e-3).all()


@pytest.mark.parametrize(
    "change, named",
    [
        (("ROTATION", "PROB", 1.5), "ROTATION.PROB: 1.5"),
        (("ROTATION", "DEGREES", (10, -10)), "ROTATION.DEGREES"),
        (("OBJECT_CROP", "SCALE", (0.5, 1.5)), "OBJECT_CROP.SCALE"),
        (("SCALE_JITTER", "SCALE", (0, 2)), "SCALE_JITTER.SCALE"),
        (("SCALE_JITTER", "SIZE", (0, 2)), "SCALE_JITTER.SIZE"),
        (("SCALE_JITTER", "SIZE", (100.5, 100)), "SCALE_JITTER.SIZE"),
        (("SCALE_JITTER", "SCALE", (0.5,)), "SCALE_JITTER.SCALE"),
        (("SCALE_JITTER", "SCALE", (0.5, float("inf"))), "SCALE_JITTER.SCALE"),
        (("OBJECT_CROP", "SCALE", (0.5,)), "OBJECT_CROP.SCALE"),
        (("ROTATION", "DEGREES", (-5, 0, 5)), "ROTATION.DEGREES"),
        (("ROTATION", "DEGREES", (5.0,)), "ROTATION.DEGREES"),
        (("PHOTOMETRIC", "HUE", 181), "PHOTOMETRIC.HUE: 181"),
        (("RANDOM_POLICY", "COUNT", -1), "RANDOM_POLICY.COUNT: -1"),
        (("RANDOM_POLICY", "MAGNITUDE", 11), "RANDOM_POLICY.MAGNITUDE: 11"),
        (("RANDOM_POLICY", "OPERATIONS", ["rotat"]), "nearest: rotate"),
    ],
)
def test_values_out_of_range_are_named(cfg, change, named):
    section, field, value = change
    check_augmentation_config(cfg)
    cfg.RCNNKIT.AUGMENTATION[section][field] = value
    with pytest.raises(UserError) as told:
        check_augmentation_config(cfg)
    assert named in str(told.value)


def test_colours_need_a_format_that_has_them(cfg):
    cfg.INPUT.FORMAT = "YUV-BT.601"
    check_augmentation_config(cfg)
    cfg.RCNNKIT.AUGMENTATION.PHOTOMETRIC.PROB = 0.5
    with pytest.raises(UserError, match=r"INPUT\.FORMAT"):
        check_augmentation_config(cfg)
