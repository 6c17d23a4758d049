"""The plug-in's keys and the checks a config passes before anything is built."""

import pytest

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.config import add_rcnnkit_config, validate_config
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
