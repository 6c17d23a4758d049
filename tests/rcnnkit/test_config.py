"""The plug-in's keys and the checks a config passes before anything is built."""

import re

import pytest

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.config import add_rcnnkit_config, validate_config
from rcnnkit.config_keypoints import check_keypoint_head
from rcnnkit.config_masks import check_mask_head
from rcnnkit.config_tasks import check_task_config
from rcnnkit.errors import UserError

NAME = "config_check_train"


@pytest.fixture
def cfg():
    DatasetCatalog.register(NAME, list)
    MetadataCatalog.get(NAME).set(thing_classes=["nut", "bolt"], keypoint_names=["head", "foot", "side"])
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAME,), ()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_defaults(cfg):
    assert (cfg.RCNNKIT.OPTIMIZER, cfg.RCNNKIT.ADAMW_BETAS) == ("SGD", (0.9, 0.999))
    validate_config(cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("RCNNKIT.OPTIMIZER", "ADAM", r"RCNNKIT\.OPTIMIZER: 'ADAM'.*SGD, ADAMW"),
        ("RCNNKIT.ADAMW_BETAS", (0.9, 1.0), r"RCNNKIT\.ADAMW_BETAS: \(0\.9, 1\.0\)"),
        (
            "DATASETS.TEST",
            ("config_check_trian",),
            r"DATASETS\.TEST: .*'config_check_trian'.*the nearest: config_check_train",
        ),
        ("RCNNKIT.TASK_BALANCE", "learned", r"RCNNKIT\.TASK_BALANCE: 'learned' is unknown; nearest: .*uncertainty"),
        ("RCNNKIT.IGNORE_IOA", 0.0, r"RCNNKIT\.IGNORE_IOA: 0\.0; give a share"),
        ("RCNNKIT.TASK_WEIGHTS", [["mask", -1.0]], r"RCNNKIT\.TASK_WEIGHTS: .*'mask', -1\.0.*at least 0"),
        ("RCNNKIT.TASK_WEIGHTS", [["mask"]], r"RCNNKIT\.TASK_WEIGHTS: .*give pairs"),
        ("RCNNKIT.TASK_WEIGHTS", [3], r"RCNNKIT\.TASK_WEIGHTS: 3; give pairs"),
        ("RCNNKIT.TASK_WEIGHTS", [["mask", True]], r"RCNNKIT\.TASK_WEIGHTS: .*give pairs"),
        ("RCNNKIT.TASK_WEIGHTS", [["mask", 2.0]], r"RCNNKIT\.TASK_WEIGHTS: GeneralizedRCNN .* to MultiTaskRCNN"),
        ("RCNNKIT.TASK_BALANCE", "uncertainty", r"RCNNKIT\.TASK_BALANCE: GeneralizedRCNN .* to MultiTaskRCNN"),
        (
            "RCNNKIT.WEIGHTS_MISMATCH",
            "all",
            r"RCNNKIT\.WEIGHTS_MISMATCH: 'all' is unknown; choose one of heads, classes",
        ),
        ("MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", "sea_saw", r"CLS_LOSS_TYPE: 'sea_saw' is unknown; choose one of seesaw, "),
        ("MODEL.ROI_BOX_HEAD.CLASS_BALANCED.BETA", 1.0, r"CLASS_BALANCED\.BETA: 1\.0; give 0 ≤ β < 1"),
        ("MODEL.ROI_BOX_HEAD.SEESAW.MITIGATION_POWER", -0.1, r"SEESAW\.MITIGATION_POWER: -0\.1; .* at least 0"),
        ("MODEL.ROI_BOX_HEAD.SEESAW.COMPENSATION_POWER", float("nan"), r"SEESAW\.COMPENSATION_POWER: nan"),
        (
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE",
            "gIoU",
            r"ROI_BOX_HEAD\.BBOX_REG_LOSS_TYPE: 'gIoU' is unknown; choose one of giou, .*ciou.*smooth_l1",
        ),
        ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "iou", r"MODEL\.RPN\.BBOX_REG_LOSS_TYPE: 'iou' .*choose one of .iou, "),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "RoIAlign", r"ROI_BOX_HEAD\.POOLER_TYPE: 'RoIAlign' .* one of ROIAlign, "),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 80, r"NUM_CLASSES: 80, but .* 2 classes \(nut, bolt\); set it to 2"),
    ],
)
def test_refused_with_key_value_and_advice(cfg, key, value, message):
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=message) as caught:
        validate_config(cfg)
    assert "\n" not in str(caught.value)


def test_a_learnt_weight_begins_above_0(cfg):
    cfg.RCNNKIT.TASK_WEIGHTS = [["mask", 0]]
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = "MultiTaskRCNN", "TaskROIHeads"
    validate_config(cfg)
    cfg.RCNNKIT.TASK_BALANCE = "uncertainty"
    with pytest.raises(UserError, match=r"TASK_WEIGHTS: \['mask', 0\]; a weight that is learnt begins above 0"):
        validate_config(cfg)


def test_keypoints_must_agree(cfg):
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(UserError, match=r"NUM_KEYPOINTS: 17, but .* 3 keypoints \(head, foot, side\); set it to 3"):
        validate_config(cfg)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    validate_config(cfg)


def test_keypoints_need_names(cfg):
    DatasetCatalog.register("config_check_plain", list)
    MetadataCatalog.get("config_check_plain").set(thing_classes=["nut", "bolt"])
    try:
        cfg.DATASETS.TRAIN, cfg.MODEL.KEYPOINT_ON = ("config_check_plain",), True
        with pytest.raises(UserError, match="'config_check_plain' names no keypoints"):
            validate_config(cfg)
    finally:
        DatasetCatalog.remove("config_check_plain")
        MetadataCatalog.remove("config_check_plain")


def test_proposals_alone_have_no_classes(cfg):
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "ProposalNetwork", 80
    validate_config(cfg)


def test_poolings_count_where_their_head_is_on(cfg):
    for head, on in (("ROI_MASK_HEAD", "MASK_ON"), ("ROI_KEYPOINT_HEAD", "KEYPOINT_ON")):
        cfg.MODEL[head].POOLER_TYPE = "RoIPool"
        validate_config(cfg)
        cfg.MODEL[on], cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = True, 3
        with pytest.raises(
            UserError, match=rf"MODEL\.{head}\.POOLER_TYPE: 'RoIPool' is unknown; choose one of ROIPool"
        ):
            validate_config(cfg)
        cfg.MODEL[head].POOLER_TYPE = ""  # feature maps themselves
        validate_config(cfg)


@pytest.mark.parametrize("kind", ["class_balanced", "seesaw"])
def test_class_losses_need_a_softmax_over_boxes(cfg, kind):
    cfg.MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE = kind
    validate_config(cfg)
    cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = True
    with pytest.raises(UserError, match=rf"CLS_LOSS_TYPE: '{kind}' is a softmax loss, but .*USE_SIGMOID_CE is True"):
        validate_config(cfg)
    cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = False
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    with pytest.raises(UserError, match="of a box head, which ProposalNetwork does not have"):
        validate_config(cfg)


def test_parts_that_know_no_ignored_regions_are_told(caplog):
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "MultiTaskRCNN"
    check_task_config(cfg)
    assert "PROPOSAL_GENERATOR.NAME: RPN" in caplog.text and "wants IgnoringRPN" in caplog.text
    assert "ROI_HEADS.NAME: Res5ROIHeads" in caplog.text and "wants TaskROIHeads, and an FPN" in caplog.text
    caplog.clear()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME, cfg.MODEL.ROI_HEADS.NAME = "IgnoringRPN", "CascadeROIHeads"
    check_task_config(cfg)
    assert "RPN" not in caplog.text and "wants CascadeTaskROIHeads" in caplog.text


def test_parts_that_get_no_ignored_regions_are_told(caplog):
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    check_task_config(cfg)
    assert not caplog.text
    cfg.MODEL.ROI_HEADS.NAME = "TaskROIHeads"
    check_task_config(cfg)
    assert "MODEL.ROI_HEADS.NAME: TaskROIHeads gets no ignored regions from GeneralizedRCNN" in caplog.text


def test_weights_of_tasks_need_heads_that_tell_them_apart(cfg):
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NAME = "MultiTaskRCNN", "StandardROIHeads"
    cfg.RCNNKIT.TASK_WEIGHTS = [["box", 0.0]]
    with pytest.raises(UserError, match=r"TASK_WEIGHTS: StandardROIHeads tells no tasks apart; .* to TaskROIHeads"):
        validate_config(cfg)


@pytest.mark.parametrize(
    "head, section, least, most",
    [("SubpixelKeypointHead", "SUBPIXEL", 8.6, 8.7), ("CoordinateKeypointHead", "COORDINATE", 18.0, 18.1)],
)
def test_a_peak_that_does_not_fit_into_the_map(cfg, head, section, least, most):
    """A window of 2 ceil(1.5 σ) + 1 positions, 28 cells or 56 bins."""
    own = cfg.MODEL.ROI_KEYPOINT_HEAD
    own.NAME, own[section].SIGMA = head, least
    check_keypoint_head(cfg)
    own[section].SIGMA = most
    with pytest.raises(UserError, match=rf"{section}\.SIGMA: {most} needs a window of \d+ positions, and a side has"):
        check_keypoint_head(cfg)
    own.NAME = "KRCNNConvDeconvUpsampleHead"
    check_keypoint_head(cfg)


@pytest.mark.parametrize(
    "check, key, value, advice",
    [
        (check_keypoint_head, "MODEL.ROI_KEYPOINT_HEAD.COORDINATE.CONV_DIM", 0, "give 1 or more"),
        (check_keypoint_head, "MODEL.ROI_KEYPOINT_HEAD.COORDINATE.NUM_CONV", -1, "give 0 or more"),
        (check_keypoint_head, "MODEL.ROI_KEYPOINT_HEAD.SUBPIXEL.VISIBILITY_LOSS_WEIGHT", -1.0, "give a factor"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.QUALITY.LOSS_WEIGHT", -1.0, "give a factor"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.QUALITY.CONV_DIM", 0, "give 1 or more"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.QUALITY.FC_DIM", 0, "give 1 or more"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.BOUNDARY.LOSS_WEIGHT", -1.0, "give a factor"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.BOUNDARY.DICE_WEIGHT", -1.0, "give a factor"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.BOUNDARY.DETAIL_DIM", 0, "give 1 or more"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.BOUNDARY.DETAIL_STRIDE", 0, "give 1 or more"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.BOUNDARY.BAND_WIDTH", 0, "give 1 or more"),
        (check_mask_head, "MODEL.ROI_MASK_HEAD.BOUNDARY.MAX_FINE_ROIS", -1, "give 0 or more"),
    ],
)
def test_numbers_of_heads(cfg, check, key, value, advice):
    """Whatever head is named: a wrong number is told where it is written, not when the head is chosen."""
    check(cfg)
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=rf"{re.escape(key)}: {value}; {advice}"):
        check(cfg)
