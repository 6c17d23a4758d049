import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

import detectron2.data.detection_utils as utils
import detectron2.data.transforms as T
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode, Instances

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
MIRROR = T.TransformList([T.HFlipTransform(5)])


def saved(folder, array, name="image.png", **options):
    path = str(folder / name)
    Image.fromarray(array).save(path, **options)
    return path


def annotation(**changes):
    base = {"bbox": [1.0, 1, 2, 2], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 3, "iscrowd": 0}
    return base | {"segmentation": [[0.0, 0, 3, 0, 3, 3]]} | changes


def test_read_image_formats(tmp_path):
    path = saved(tmp_path, IMAGE)
    np.testing.assert_array_equal(utils.read_image(path), IMAGE)
    np.testing.assert_array_equal(utils.read_image(path, "BGR"), IMAGE[:, :, ::-1])
    assert utils.read_image(path, "L").shape == (4, 5, 1)
    yuv = utils.read_image(path, "YUV-BT.601")
    np.testing.assert_allclose(yuv[0, 0], (IMAGE[0, 0] / 255) @ np.array(utils._M_RGB2YUV).T)
    np.testing.assert_allclose(utils.convert_image_to_rgb(yuv, "YUV-BT.601"), IMAGE, atol=0.01)


def test_convert_to_rgb():
    np.testing.assert_array_equal(utils.convert_image_to_rgb(IMAGE, "BGR"), IMAGE[:, :, ::-1])
    np.testing.assert_array_equal(utils.convert_image_to_rgb(torch.as_tensor(IMAGE), "RGB"), IMAGE)
    assert utils.convert_image_to_rgb(IMAGE[:, :, :1], "L").shape == (4, 5, 3)


@pytest.mark.parametrize(
    "orientation, upright",
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_exif_orientation(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[274] = orientation
    np.testing.assert_array_equal(utils.read_image(saved(tmp_path, IMAGE, exif=exif), "RGB"), upright(IMAGE))


def test_missing_truncated_and_foreign_files(tmp_path):
    missing = str(tmp_path / "none.jpg")
    with pytest.raises(FileNotFoundError) as error:
        utils.read_image(missing)
    assert str(error.value) == f"{missing}: the image file does not exist"
    noise = np.random.RandomState(0).randint(0, 255, (64, 64, 3)).astype(np.uint8)
    path = saved(tmp_path, noise, "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    for part in (content[: len(content) // 2], b"text", b""):
        (tmp_path / "cut.jpg").write_bytes(part)
        with pytest.raises(utils.ImageReadError, match="cannot be read") as error:
            utils.read_image(path, "BGR")
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
    assert issubclass(utils.ImageReadError, ValueError)
    assert issubclass(utils.ImageReadError, OSError)


def test_image_size_is_filled_in_or_checked():
    record = {}
    utils.check_image_size(record, IMAGE)
    assert record == {"width": 5, "height": 4}
    with pytest.raises(utils.SizeMismatchError, match=r"^a.jpg: .*\(5, 4\).*image_id 7\) says \(5, 3\)"):
        utils.check_image_size({"width": 5, "height": 3, "file_name": "a.jpg", "image_id": 7}, IMAGE)


def test_keypoints_outside_are_not_labelled():
    # (9, 1) lies outside; (3, 3) is not labelled; (4, 5) lies below the last row
    points = [1.0, 2, 2, 9, 1, 1, 3, 3, 0, 4, 5, 2]
    kept = utils.transform_keypoint_annotations(points, T.TransformList([T.NoOpTransform()]), (4, 5))
    np.testing.assert_array_equal(kept, [[1, 2, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    mirrored = utils.transform_keypoint_annotations(points, MIRROR, (4, 5), [1, 0, 2, 3])
    np.testing.assert_array_equal(mirrored, [[0, 0, 0], [4, 2, 2], [0, 0, 0], [0, 0, 0]])
    assert points[0] == 1.0
    with pytest.raises(ValueError, match="keypoint_hflip_indices is needed"):
        utils.transform_keypoint_annotations(points, MIRROR, (4, 5))
    with pytest.raises(ValueError, match="has 4 keypoints, keypoint_hflip_indices 3"):
        utils.transform_keypoint_annotations(points, MIRROR, (4, 5), [1, 0, 2])


def test_annotation_is_transformed_in_place():
    polygon = np.array([0.0, 0, 3, 0, 3, 3])
    given = annotation(bbox=[-1.0, 1, 3, 9], segmentation=[polygon])
    result = utils.transform_instance_annotations(given, MIRROR, (4, 5))
    assert result is given
    np.testing.assert_array_equal(result["bbox"], [3, 1, 5, 4])
    assert result["bbox_mode"] == BoxMode.XYXY_ABS
    np.testing.assert_array_equal(result["segmentation"][0], [5, 0, 2, 0, 2, 3])
    np.testing.assert_array_equal(polygon, [0, 0, 3, 0, 3, 3])


def test_rle_becomes_a_mask():
    mask = np.zeros((4, 5), np.uint8)
    mask[1, :2] = 1
    given = annotation(segmentation=mask_util.encode(np.asfortranarray(mask)))
    result = utils.transform_instance_annotations(given, [T.HFlipTransform(5)], (4, 5))
    np.testing.assert_array_equal(result["segmentation"], mask[:, ::-1])
    with pytest.raises(ValueError, match="transforms know polygons"):
        utils.transform_instance_annotations(annotation(segmentation="x"), MIRROR, (4, 5))


def test_instances_of_nothing():
    empty = utils.annotations_to_instances([], (4, 5))
    assert empty.gt_boxes.tensor.shape == (0, 4)
    assert empty.gt_classes.dtype == torch.int64
    assert not empty.has("gt_masks")


def test_instances_with_polygons_bitmasks_and_keypoints():
    annos = [annotation(keypoints=[1.0, 1, 2]), annotation(category_id=1)]
    instances = utils.annotations_to_instances(annos, (4, 5))
    assert instances.gt_boxes.tensor.tolist() == [[1, 1, 3, 3]] * 2
    assert instances.gt_classes.tolist() == [3, 1]
    assert len(instances.gt_masks) == 2
    # an object without keypoints has none that is labelled
    assert instances.gt_keypoints.tensor.tolist() == [[[1, 1, 2]], [[0, 0, 0]]]

    mask = np.zeros((4, 5), np.uint8)
    mask[1, :2] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    annos = [annotation(segmentation=s) for s in (rle, mask, [[0.0, 0, 5, 0, 5, 4, 0, 4]])]
    masks = utils.annotations_to_instances(annos, (4, 5), "bitmask").gt_masks.tensor
    assert masks.dtype == torch.bool
    np.testing.assert_array_equal(masks.numpy(), [mask, mask, np.ones((4, 5))])


@pytest.mark.parametrize(
    "annos, mask_format, message",
    [
        ([annotation(segmentation={"size": [4, 5], "counts": b"0"})], "polygon", "INPUT.MASK_FORMAT"),
        ([annotation(segmentation="x")], "bitmask", "bit masks are made of"),
        ([annotation(segmentation=IMAGE)], "bitmask", "this one has 3"),
        ([annotation()], "other", "mask_format"),
        ([annotation(keypoints=[1, 1, 2]), annotation(keypoints=[1, 1, 2] * 2)], "polygon", "different numbers"),
    ],
)
def test_instances_refuse(annos, mask_format, message):
    with pytest.raises((ValueError, AssertionError), match=message):
        utils.annotations_to_instances(annos, (4, 5), mask_format)


def test_some_objects_without_a_mask_are_an_error():
    bare = annotation()
    del bare["segmentation"]
    with pytest.raises(ValueError, match="1 of 2 annotations"):
        utils.annotations_to_instances([bare, annotation()], (4, 5))


def test_empty_instances_are_dropped():
    annos = [annotation(), annotation(bbox=[1.0, 1, 0, 3]), annotation(bbox=[0.0, 0, 3, 3])]
    instances = utils.annotations_to_instances(annos, (4, 5))
    kept, mask = utils.filter_empty_instances(instances, return_mask=True)
    assert mask.tolist() == [True, False, True]
    assert len(kept) == 2
    assert len(utils.filter_empty_instances(instances, by_mask=False, box_threshold=2.5)) == 1
    with pytest.raises(AssertionError):
        utils.filter_empty_instances(instances, by_box=False, by_mask=False)


def test_proposals_are_clipped_filtered_and_cut():
    record = {
        "proposal_boxes": np.array([[0.0, 0, 3, 3.25], [1, 1, 9, 9], [2, 2, 2.5, 2.2], [1, 1, 3, 4]], np.float32),
        "proposal_objectness_logits": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
    }
    utils.transform_proposals(record, (4, 5), MIRROR, proposal_topk=2, min_box_size=1)
    assert list(record) == ["proposals"]
    assert isinstance(record["proposals"], Instances)
    assert record["proposals"].proposal_boxes.tensor.tolist() == [[2, 0, 5, 3.25], [0, 1, 4, 4]]
    torch.testing.assert_close(record["proposals"].objectness_logits, torch.tensor([0.1, 0.2]))


def test_keypoint_flip_indices():
    indices = utils.create_keypoint_hflip_indices("keypoints_coco_2017_val")
    assert indices == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    with pytest.raises(AttributeError, match="keypoint_names"):
        utils.create_keypoint_hflip_indices(["coco_2017_val"])
    MetadataCatalog.get("flip_bad").set(keypoint_names=["eye_l", "eye_r"], keypoint_flip_map=[("eye_l", "eyer")])
    with pytest.raises(ValueError, match=r"'eyer'.*nearest: 'eye_r'"):
        utils.create_keypoint_hflip_indices("flip_bad")
    MetadataCatalog.remove("flip_bad")


def test_metadata_of_several_datasets_is_compared():
    with pytest.raises(ValueError, match="'thing_classes' is not the same"):
        utils.check_metadata_consistency("thing_classes", ["coco_2017_val", "keypoints_coco_2017_val"])
    utils.check_metadata_consistency("thing_classes", ["coco_2017_val", "coco_2017_train"])


def test_crop_around_an_object():
    box = {"bbox": [10.0, 10, 30, 20], "bbox_mode": BoxMode.XYWH_ABS}
    np.random.seed(0)  # noqa: NPY002 — the generator that augmentations draw from
    crop = utils.gen_crop_transform_with_instance((20, 30), (60, 80), box)
    assert (crop.x0, crop.y0, crop.w, crop.h) == (15, 12, 30, 20)
    with pytest.raises(AssertionError, match="larger than the image"):
        utils.gen_crop_transform_with_instance((200, 30), (60, 80), box)
