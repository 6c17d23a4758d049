"""The mapper on objects that are labelled in part, and beside Detectron2's where all are labelled."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.data.augmentation.affine import rotation, shift
from rcnnkit.data.mapper import CROWD, EMPTY_BOX, EMPTY_MASK, IGNORED, SHORT_POLYGON, LabelMapper
from rcnnkit.errors import UserError

SQUARE = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
POINTS = [12.5, 12.5, 2, 20.5, 20.5, 1, 0, 0, 0]


def an_object(category=0, box=(10, 10, 30, 30), **labels) -> dict:
    return {"category_id": category, "bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0, **labels}


@pytest.fixture
def record(tmp_path):
    """A 60×40 picture of noise; annotations are the test's."""

    def make(*annotations, **more) -> dict:
        path = tmp_path / "picture.png"
        if not path.exists():
            pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        return {"file_name": str(path), "height": 40, "width": 60, "image_id": 7, "annotations": [*annotations], **more}

    return make


def mapper(*augmentations, train=True, **arguments) -> LabelMapper:
    return LabelMapper(train, augmentations=[*augmentations], image_format="BGR", **arguments)


def runs(mask: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.parametrize("mask_format, masks", [("polygon", PolygonMasks), ("bitmask", BitMasks)])
def test_every_object_stays_and_what_is_labelled_is_marked(record, mask_format, masks):
    annotations = (
        an_object(0),
        an_object(1, segmentation=SQUARE),
        an_object(2, keypoints=POINTS),
        an_object(0, segmentation=[]),
        an_object(1, segmentation=SQUARE, keypoints=[0.0] * 9),
    )
    given = record(*annotations)
    item = mapper(use_instance_mask=True, use_keypoint=True, instance_mask_format=mask_format)(given)
    instances = item["instances"]
    assert instances.gt_classes.tolist() == [0, 1, 2, 0, 1]
    assert instances.gt_has_mask.tolist() == [False, True, False, False, True]
    assert instances.gt_has_keypoints.tolist() == [False, False, True, False, False]
    assert isinstance(instances.gt_masks, masks)
    assert instances.gt_masks.nonempty().tolist() == [False, True, False, False, True]
    assert instances.gt_keypoints.tensor.shape == (5, 3, 3)
    assert instances.gt_keypoints.tensor[2].flatten().tolist() == POINTS
    assert not instances.gt_keypoints.tensor[[0, 1, 3, 4]].any()
    assert "left_out" not in item and "annotations" not in item
    assert given == record(*annotations)
    assert item["image"].shape == (3, 40, 60)


def test_an_image_without_objects(record):
    instances = mapper(use_instance_mask=True, use_keypoint=True, keypoint_hflip_indices=[0, 2, 1])(record())[
        "instances"
    ]
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_keypoints.tensor.shape == (0, 3, 3)
    assert len(instances.gt_masks) == len(instances.gt_has_mask) == len(instances.gt_has_keypoints) == 0


def test_labels_that_no_task_uses_are_not_looked_at(record):
    item = mapper()(record(an_object(segmentation={"counts": "bad", "size": []}, keypoints=["x"])))
    assert sorted(item["instances"].get_fields()) == ["gt_boxes", "gt_classes"]


def test_what_must_go_is_counted(record):
    crowd = runs(np.ones((40, 60)))
    item = mapper(use_instance_mask=True)(
        record(
            an_object(iscrowd=1, segmentation=crowd),
            an_object(ignore=1),
            an_object(ignore=1),
            an_object(box=(10, 10, 10, 30)),
            an_object(box=(70, 10, 80, 30)),
            an_object(2, segmentation=[[1.0, 2.0, 3.0, 4.0], *SQUARE]),
            an_object(3, segmentation=[[1.0, 2.0, 3.0, 4.0]]),
        )
    )
    assert item["left_out"] == {CROWD: 1, IGNORED: 2, EMPTY_BOX: 2, SHORT_POLYGON: 2}
    assert item["instances"].gt_classes.tolist() == [2, 3]
    assert item["instances"].gt_has_mask.tolist() == [True, False]


def test_crowds_and_ignored_objects_are_handed_over_where_they_are(record):
    given = record(
        an_object(),
        an_object(iscrowd=1, box=(10, 10, 30, 30)),
        an_object(ignore=1, box=(30, 5, 60, 20)),
        an_object(ignore=1, box=(0, 0, 20, 40)),  # outside of the crop
        {**an_object(iscrowd=1), "bbox": [40, 0, 10, 10], "bbox_mode": BoxMode.XYWH_ABS},
    )
    item = mapper(T.CropTransform(20, 0, 40, 40), T.HFlipTransform(40))(given)
    assert item["ignored"].tensor.tolist() == [[30, 10, 40, 30], [0, 5, 30, 20], [10, 0, 20, 10]]
    assert len(item["instances"]) == 1
    assert "ignored" not in mapper()(record(an_object()))
    assert "ignored" not in mapper(train=False)(given)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_after_a_crop_boxes_fit_masks_where_there_are_some(record, mask_format):
    crop = T.CropTransform(20, 0, 40, 40)
    triangle = [[10.0, 10.0, 30.0, 10.0, 10.0, 30.0]]
    annotations = (
        an_object(0, box=(10, 10, 30, 30), segmentation=triangle),
        an_object(1, box=(10, 10, 30, 30)),
        an_object(2, box=(2, 10, 22, 30), segmentation=[[2.0, 10.0, 12.0, 10.0, 2.0, 30.0]]),  # box in, mask out
    )
    item = mapper(crop, use_instance_mask=True, instance_mask_format=mask_format, recompute_boxes=True)(
        record(*annotations)
    )
    assert item["instances"].gt_classes.tolist() == [0, 1]
    assert item["left_out"] == {EMPTY_MASK: 1}
    # within the crop the triangle ends where its hypotenuse enters: x + y = 40 at x = 20
    expected = torch.tensor([[0.0, 10.0, 10.0, 20.0], [0.0, 10.0, 10.0, 30.0]])
    torch.testing.assert_close(item["instances"].gt_boxes.tensor, expected, atol=1.0, rtol=0)


def test_keypoints_outside_of_the_crop_are_not_there(record):
    item = mapper(T.CropTransform(30, 0, 30, 40), use_keypoint=True)(
        record(an_object(box=(10, 10, 40, 30), keypoints=POINTS))
    )
    assert item["instances"].gt_has_keypoints.tolist() == [False]


@pytest.mark.parametrize(
    "flips, first, second",
    [
        # (12, 14) and (20, 22) in 60×40: 60 - x mirrored at the middle column, 40 - y at the middle row
        ("", (12, 14), (20, 22)),
        ("h", (40, 22), (48, 14)),
        ("v", (20, 18), (12, 26)),
        ("hv", (48, 26), (40, 18)),
        ("vh", (48, 26), (40, 18)),
        ("vv", (12, 14), (20, 22)),
        ("vhv", (40, 22), (48, 14)),
    ],
)
def test_left_and_right_change_places_in_an_odd_number_of_mirrors(record, flips, first, second):
    kinds = {"h": T.HFlipTransform(60), "v": T.VFlipTransform(40)}
    made = mapper(*(kinds[flip] for flip in flips), use_keypoint=True, keypoint_hflip_indices=[1, 0])
    item = made(record(an_object(keypoints=[12, 14, 2, 20, 22, 1])))
    swapped = len(flips) % 2
    assert item["instances"].gt_keypoints.tensor[0].tolist() == [[*first, 1 + (not swapped)], [*second, 1 + swapped]]


def test_a_vertical_flip_without_pairs_is_refused_as_a_horizontal_one_is(record):
    for flip in (T.HFlipTransform(60), T.VFlipTransform(40)):
        with pytest.raises(ValueError):
            mapper(flip, use_keypoint=True)(record(an_object(keypoints=POINTS)))
        assert len(mapper(flip)(record(an_object(keypoints=POINTS)))["instances"]) == 1


def test_a_flip_swaps_sides_and_leaves_other_objects_alone(record):
    item = mapper(T.HFlipTransform(60), use_keypoint=True, keypoint_hflip_indices=[0, 2, 1])(
        record(an_object(keypoints=POINTS), an_object(1))
    )
    points = item["instances"].gt_keypoints.tensor
    assert points[0].tolist() == [[47.5, 12.5, 2], [0, 0, 0], [39.5, 20.5, 1]]
    assert not points[1].any()


def turned(record, *annotations, degrees=45.0, **arguments):
    """The 60×40 picture turned about (30, 20)."""
    made = mapper(rotation(40, 60, degrees), use_keypoint=True, **arguments)
    return made(record(*annotations))["instances"]


def test_a_turned_box_reaches_around_the_keypoints_that_it_held(record):
    """The circle inside the square of 20 stays where it is; its corner (-10, -10) goes to (-√200, 0)."""
    corner = [20, 10, 1, 30, 20, 2, 0, 0, 0]
    # (0, -15) lay above the box; it goes to (-10.6, -10.6), which is outside of the box and stays so
    above = [30, 5, 2, 30, 20, 2, 0, 0, 0]
    unlabelled = [20, 10, 0, 30, 20, 2, 0, 0, 0]
    box = (20, 10, 40, 30)
    found = turned(record, *(an_object(box=box, keypoints=points) for points in (corner, above, unlabelled)))
    expected = [[30 - 200**0.5, 10, 40, 30], [20, 10, 40, 30], [20, 10, 40, 30]]
    torch.testing.assert_close(found.gt_boxes.tensor, torch.tensor(expected))
    as_sizes = {**an_object(box=(20, 10, 20, 20), keypoints=corner), "bbox_mode": BoxMode.XYWH_ABS}
    torch.testing.assert_close(turned(record, as_sizes).gt_boxes.tensor[0], torch.tensor(expected[0]))


@pytest.mark.parametrize("degrees", [-75.0, -45.0, 10.0, 30.0, 45.0, 90.0])
def test_keypoints_that_were_in_the_box_are_in_the_turned_one(record, degrees):
    rng = np.random.default_rng(0)
    objects = []
    for _ in range(30):
        x, y, width, height = rng.uniform((0, 0, 4, 4), (40, 25, 20, 15))
        places = rng.uniform((x, y), (x + width, y + height), (3, 2))
        places[0] = x, y  # a corner lies farthest from the ellipse
        points = np.column_stack([places, [2, 2, 1]]).flatten().tolist()
        objects.append(an_object(box=(x, y, x + width, y + height), keypoints=points))
    found = turned(record, *objects, degrees=degrees)
    assert len(found) > 15
    boxes, points = found.gt_boxes.tensor[:, None].double(), found.gt_keypoints.tensor.double()
    inside = ((points[:, :, :2] >= boxes[..., :2] - 1e-4) & (points[:, :, :2] <= boxes[..., 2:] + 1e-4)).all(dim=2)
    assert inside[points[:, :, 2] > 0].all()
    assert (boxes >= 0).all() and (boxes[..., 2:] <= torch.tensor([60, 40])).all()


def test_a_mask_alone_decides_its_turned_box(record):
    """Beside it a keypoint in the corner of the box widens nothing, and one that left the image neither."""
    middle = [[28.0, 18.0, 32.0, 18.0, 32.0, 22.0, 28.0, 22.0]]
    annotation = an_object(box=(20, 10, 40, 30), segmentation=middle, keypoints=[20, 10, 2, 0, 0, 0, 0, 0, 0])
    [box] = turned(record, annotation, use_instance_mask=True, recompute_boxes=True).gt_boxes.tensor.tolist()
    assert box == pytest.approx([30 - 8**0.5, 20 - 8**0.5, 30 + 8**0.5, 20 + 8**0.5], abs=1e-4)
    [box] = turned(record, annotation, use_instance_mask=True).gt_boxes.tensor.tolist()
    assert box == pytest.approx([20, 10, 40, 30]), "where boxes are not taken from masks it is the ellipse's"
    gone = an_object(box=(0, 0, 20, 20), keypoints=[0, 0, 2, 0, 0, 0, 0, 0, 0])
    moved = mapper(shift(40, 60, -5, -5), use_keypoint=True)(record(gone))["instances"]
    assert moved.gt_boxes.tensor.tolist() == [[0, 0, 15, 15]]


def test_boxes_that_nothing_turns_do_not_reach_for_keypoints(record):
    """A keypoint in the corner, on a box that a resize scales to what is no number of single precision."""
    given = an_object(box=(10.1, 10.3, 30.7, 30.9), keypoints=[10.1, 10.3, 2, 30.7, 30.9, 2, 0, 0, 0])
    resize, flip = T.ResizeTransform(40, 60, 53, 79), T.HFlipTransform(79)
    arguments = {"augmentations": [resize, flip], "image_format": "BGR", "use_keypoint": True}
    own, engines = (
        kind(True, keypoint_hflip_indices=np.array([1, 0, 2]), **arguments)(record(given))["instances"]
        for kind in (LabelMapper, DatasetMapper)
    )
    assert torch.equal(own.gt_boxes.tensor, engines.gt_boxes.tensor)


def test_segmentations_of_the_whole_image_are_ignored_where_nothing_was_seen(record, tmp_path):
    """Class 0 is one as any other: what a shift brings from outside is none."""
    classes = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 3
    Image.fromarray(classes).save(tmp_path / "classes.png")
    given = record(sem_seg_file_name=str(tmp_path / "classes.png"))
    assert torch.equal(mapper()(given)["sem_seg"], torch.from_numpy(classes).long())
    expected = np.full((40, 60), 255)
    expected[:37, 5:] = classes[3:, :-5]
    moved = shift(40, 60, 5, -3)
    assert np.array_equal(mapper(moved)(given)["sem_seg"].numpy(), expected)
    assert np.array_equal(mapper(moved, T.HFlipTransform(60))(given)["sem_seg"].numpy(), expected[:, ::-1])
    expected[expected == 255] = 9
    assert np.array_equal(mapper(moved, ignored_class=9)(given)["sem_seg"].numpy(), expected)


def test_the_ignored_class_is_that_of_the_config():
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    assert LabelMapper(cfg, True).ignored_class == 255
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 254
    assert LabelMapper(cfg, True).ignored_class == 254


@pytest.mark.parametrize("image_format, channels", [("L", 1), ("BGR", 3)])
@pytest.mark.parametrize("size", [(40, 1), (1, 60), (1, 1)])
def test_a_flip_of_a_crop_one_pixel_wide(record, image_format, channels, size):
    """The resize between them gives an array of its own, whose negative strides nothing else would copy away."""
    height, width = size
    resize = T.ResizeTransform(height, width, 2 * height - 1, 2 * width - 1)
    for flip in (T.HFlipTransform(2 * width - 1), T.VFlipTransform(2 * height - 1)):
        steps = [T.CropTransform(0, 0, width, height), resize, flip]
        item = LabelMapper(True, augmentations=steps, image_format=image_format)(record(an_object()))
        assert item["image"].shape == (channels, 2 * height - 1, 2 * width - 1)


def test_crops_that_cut_no_object_look_at_objects_only(record):
    """Crowds and what is to be ignored may be cut."""
    given = [an_object(), an_object(1, iscrowd=1), an_object(1, ignore=1), an_object(2, box=(1, 2, 3, 4))]
    made = mapper(augment_with_boxes=True)
    assert made._seen_boxes(given).tolist() == [[10, 10, 30, 30], [1, 2, 3, 4]]
    assert made._seen_boxes(None).shape == (0, 4)
    assert mapper()._seen_boxes(given) is None, "no augmentation asks for them"
    assert mapper(train=False, augment_with_boxes=True)._seen_boxes(given) is None


def test_run_lengths_in_either_form(record):
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[5:10, 20:25] = 1
    compressed = runs(mask)
    changes = np.flatnonzero(np.diff(mask.T.flatten(), prepend=0, append=0))
    counts = np.diff([0, *changes, mask.size]).tolist()
    as_text = {**compressed, "counts": compressed["counts"].decode()}
    annotations = [an_object(segmentation=s) for s in (compressed, as_text, {"size": [40, 60], "counts": counts})]
    instances = mapper(use_instance_mask=True, instance_mask_format="bitmask")(record(*annotations))["instances"]
    for found in instances.gt_masks.tensor:
        assert (found.numpy() == mask.astype(bool)).all()


def test_what_cannot_be_used_is_one_line(record):
    rle = an_object(segmentation=runs(np.ones((40, 60))))
    with pytest.raises(UserError, match=r"picture\.png: image 7 has a mask of run lengths.*bitmask"):
        mapper(use_instance_mask=True)(record(rle))
    with pytest.raises(UserError, match=r"image 7 has an object with 9 numbers for keypoints.* 2 keypoints"):
        mapper(use_keypoint=True, keypoint_hflip_indices=[0, 1])(record(an_object(keypoints=POINTS)))


def test_inference_has_no_instances(record):
    assert "instances" not in mapper(train=False)(record(an_object()))


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("crop", [False, True])
def test_the_same_as_detectron2_s_where_everything_is_labelled(record, mask_format, crop):
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = mask_format
    cfg.INPUT.MIN_SIZE_TRAIN = (50, 60, 70)
    cfg.INPUT.CROP.ENABLED = crop
    given = record(
        *(
            an_object(i, (x, 5, x + 12, 25), segmentation=[[float(x), 5.0, x + 12.0, 5.0, float(x), 25.0]])
            for i, x in enumerate(range(2, 46, 9))
        )
    )
    own, engines = LabelMapper(cfg, True), DatasetMapper(cfg, True)
    for seed in range(6):
        np.random.seed(seed)  # noqa: NPY002  Detectron2's augmentations draw from the global state
        found = own(given)
        np.random.seed(seed)  # noqa: NPY002
        expected = engines(given)
        assert torch.equal(found["image"], expected["image"])
        one, other = found["instances"], expected["instances"]
        assert torch.equal(one.gt_boxes.tensor, other.gt_boxes.tensor)
        assert torch.equal(one.gt_classes, other.gt_classes)
        assert one.gt_has_mask.all()
        boxes = one.gt_boxes.tensor
        assert torch.equal(one.gt_masks.crop_and_resize(boxes, 28), other.gt_masks.crop_and_resize(boxes, 28))
