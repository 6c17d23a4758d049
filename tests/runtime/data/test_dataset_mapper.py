import copy

import numpy as np
import pytest
import torch
from PIL import Image

import detectron2.data.transforms as T
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.data.datasets import load_coco_json
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.structures import BoxMode, PolygonMasks


@pytest.fixture
def record(tmp_path):
    image = np.random.RandomState(0).randint(0, 255, (20, 30, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    box = {"bbox": [2.0, 3, 10, 8], "bbox_mode": BoxMode.XYWH_ABS}
    polygon = [[2.0, 3, 12, 3, 12, 11, 2, 11]]
    return {
        "file_name": str(path),
        "height": 20,
        "width": 30,
        "image_id": 4,
        "annotations": [
            box | {"category_id": 1, "segmentation": polygon, "keypoints": [5.0, 5, 2], "iscrowd": 0},
            box | {"category_id": 0, "segmentation": polygon, "iscrowd": 0},
            box | {"category_id": 0, "segmentation": polygon, "iscrowd": 1},
        ],
    }


def pixels(record):
    return np.asarray(Image.open(record["file_name"]))[:, :, ::-1]


def test_training_input(record):
    before = copy.deepcopy(record)
    mapper = DatasetMapper(True, augmentations=[T.HFlipTransform(30)], image_format="BGR", use_instance_mask=True)
    result = mapper(record)
    assert record == before
    assert result["image"].shape == (3, 20, 30)
    assert result["image"].is_contiguous()
    np.testing.assert_array_equal(result["image"].numpy(), pixels(record)[:, ::-1].transpose(2, 0, 1))
    instances = result["instances"]
    # the crowd is left out
    assert instances.gt_boxes.tensor.tolist() == [[18, 3, 28, 11]] * 2
    assert isinstance(instances.gt_masks, PolygonMasks)
    assert not instances.has("gt_keypoints")
    assert "annotations" not in result


@pytest.mark.parametrize("channels", ["L", "YUV-BT.601"])
def test_other_formats(record, channels):
    image = DatasetMapper(True, augmentations=[], image_format=channels)(record)["image"]
    assert image.shape == (1 if channels == "L" else 3, 20, 30)


def test_classes_without_keypoints_train_beside_classes_with(record):
    mapper = DatasetMapper(
        True, augmentations=[], image_format="BGR", use_keypoint=True, keypoint_hflip_indices=np.array([0])
    )
    assert mapper(record)["instances"].gt_keypoints.tensor.tolist() == [[[5, 5, 2]], [[0, 0, 0]]]


def test_boxes_from_cropped_masks(record):
    mapper = DatasetMapper(
        True,
        augmentations=[T.CropTransform(5, 0, 25, 20)],
        image_format="BGR",
        use_instance_mask=True,
        recompute_boxes=True,
    )
    assert mapper(record)["instances"].gt_boxes.tensor.tolist() == [[0, 3, 7, 11]] * 2
    with pytest.raises(AssertionError, match="masks"):
        DatasetMapper(True, augmentations=[], image_format="BGR", recompute_boxes=True)


def test_inference_input(record):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST = 40
    result = DatasetMapper(cfg, False)(record)
    assert result["image"].shape == (3, 40, 60)
    assert (result["height"], result["width"]) == (20, 30)
    assert "annotations" not in result
    assert "instances" not in result


def test_from_config():
    cfg = get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    mapper = DatasetMapper(cfg)
    kinds = [type(aug).__name__ for aug in mapper.augmentations.augs]
    assert kinds == ["RandomCrop", "ResizeShortestEdge", "RandomFlip"]
    assert mapper.recompute_boxes
    assert mapper.instance_mask_format == "bitmask"
    cfg.INPUT.RANDOM_FLIP = "diagonal"
    with pytest.raises(ValueError, match=r"INPUT\.RANDOM_FLIP"):
        DatasetMapper(cfg)


def test_semantic_labels(record, tmp_path):
    path = tmp_path / "labels.png"
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(path)
    mapper = DatasetMapper(True, augmentations=[T.Resize((10, 15))], image_format="BGR")
    labels = mapper(record | {"sem_seg_file_name": str(path)})["sem_seg"]
    assert labels.dtype == torch.int64
    assert labels.shape == (10, 15)
    assert (labels == 7).all()


def test_size_mismatch_names_the_file_and_the_id(record):
    with pytest.raises(SizeMismatchError, match=r"a\.png: .*image_id 4"):
        DatasetMapper(True, augmentations=[], image_format="BGR")(record | {"height": 21})


@pytest.mark.realdata
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_nuts(real_data, mask_format):
    records = load_coco_json(
        str(real_data / "nuts" / "trainval.json"), str(real_data / "nuts" / "images"), "nuts_mapped"
    )
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = mask_format
    cfg.INPUT.MIN_SIZE_TRAIN = (120,)
    cfg.INPUT.CROP.ENABLED = True
    mapper = DatasetMapper(cfg)
    for record in records[:4]:
        result = mapper(record)
        instances = result["instances"]
        assert instances.image_size == tuple(result["image"].shape[1:])
        h, w = instances.image_size
        boxes = instances.gt_boxes.tensor
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([w, h, w, h])).all()
        assert len(instances.gt_masks) == len(instances) <= len(record["annotations"])
