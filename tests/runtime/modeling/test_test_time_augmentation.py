"""Test-time augmentation; the merged boxes and masks are compared with stock Detectron2's in tests/golden."""

import pytest
import torch
from fvcore.transforms import HFlipTransform, NoOpTransform, TransformList

from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.structures import Instances
from tests.golden.cases import models


def keypoint_config(**augmentation):
    cfg = models.config("narrow_cascade_keypoint")
    for name, value in augmentation.items():
        cfg.TEST.AUG[name] = value
    return cfg


@pytest.fixture(scope="module")
def keypoint_model():
    return models.build("narrow_cascade_keypoint").eval()


def view_with(**fields) -> Instances:
    return Instances((8, 8), **fields)


def test_one_view_of_the_pictures_own_size_changes_nothing(keypoint_model):
    tta = GeneralizedRCNNWithTTA(keypoint_config(MIN_SIZES=(96,), MAX_SIZE=128, FLIP=False), keypoint_model)
    inputs = [{"image": models.images()[0], "height": 96, "width": 128}]
    with torch.no_grad():
        plain, augmented = keypoint_model(inputs)[0]["instances"], tta(inputs)[0]["instances"]
    assert len(plain) > 0
    for name in ("pred_boxes", "scores", "pred_classes", "pred_keypoints"):
        one, other = plain.get(name), augmented.get(name)
        one, other = (one.tensor, other.tensor) if name == "pred_boxes" else (one, other)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-3)
    assert keypoint_model.roi_heads.keypoint_on


def test_mirrored_heatmaps_are_mirrored_back_and_left_becomes_right(keypoint_model):
    tta = GeneralizedRCNNWithTTA(keypoint_config(), keypoint_model)
    heatmaps = torch.rand(2, 17, 4, 4)
    # COCO: the nose is its own partner, the left eye (1) is the right eye (2) of the mirrored person, and so on
    partners = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    mirrored = heatmaps[:, partners].flip(dims=[3])
    outputs = [view_with(pred_keypoint_heatmaps=heatmaps), view_with(pred_keypoint_heatmaps=mirrored)]
    flip = TransformList([NoOpTransform(), HFlipTransform(8)])
    torch.testing.assert_close(tta._reduce_pred_keypoint_heatmaps(outputs, [NoOpTransform(), flip]), heatmaps)


def test_masks_are_averaged_and_twice_mirrored_is_not_mirrored(keypoint_model):
    tta = GeneralizedRCNNWithTTA(keypoint_config(), keypoint_model)
    outputs = [
        view_with(pred_masks=torch.tensor([[[[0.2, 0.8]]]])),
        view_with(pred_masks=torch.tensor([[[[0.4, 0.0]]]])),
    ]
    once, twice = TransformList([HFlipTransform(8)]), TransformList([HFlipTransform(8), HFlipTransform(8)])
    torch.testing.assert_close(tta._reduce_pred_masks(outputs, [twice, once]), torch.tensor([[[[0.1, 0.6]]]]))


def test_no_detections_at_all(keypoint_model):
    cfg = keypoint_config(MIN_SIZES=(48,), MAX_SIZE=64)
    threshold = keypoint_model.roi_heads.box_predictor[-1].test_score_thresh
    keypoint_model.roi_heads.box_predictor[-1].test_score_thresh = 2.0
    try:
        with torch.no_grad():
            found = GeneralizedRCNNWithTTA(cfg, keypoint_model)([{"image": models.images()[0]}])[0]["instances"]
    finally:
        keypoint_model.roi_heads.box_predictor[-1].test_score_thresh = threshold
    assert len(found) == 0 and found.pred_keypoints.shape == (0, 17, 3) and found.image_size == (96, 128)


def test_refuses_what_it_cannot_augment(keypoint_model):
    cfg = keypoint_config()
    cfg.MODEL.LOAD_PROPOSALS = True
    with pytest.raises(ValueError, match="LOAD_PROPOSALS"):
        GeneralizedRCNNWithTTA(cfg, keypoint_model)
    rpn = models.config("rpn_R50_FPN")
    rpn.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(rpn)
    with pytest.raises(TypeError, match="ProposalNetwork"):
        GeneralizedRCNNWithTTA(rpn, model)
