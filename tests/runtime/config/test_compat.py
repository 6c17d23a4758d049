"""Configs of older versions."""

import pytest

from detectron2.config import CfgNode, downgrade_config, get_cfg, upgrade_config
from detectron2.config.compat import guess_version

V1_KEYS = {  # current key → its name in version 1
    "MODEL.WEIGHTS": "MODEL.WEIGHT",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "MODEL.ROI_HEADS.NMS",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "MODEL.ROI_HEADS.SCORE_THRESH",
    "MODEL.RPN.LOSS_WEIGHT": "MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE",
    "MODEL.PANOPTIC_FPN.COMBINE.ENABLED": "MODEL.PANOPTIC_FPN.COMBINE_ON",
    "MODEL.RETINANET.SCORE_THRESH_TEST": "MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD",
    "TEST.DETECTIONS_PER_IMAGE": "TEST.DETECTIONS_PER_IMG",
    "TEST.AUG.ENABLED": "TEST.AUG_ON",
    "MODEL.ANCHOR_GENERATOR.SIZES": "MODEL.RPN.ANCHOR_SIZES",
}


def _value(cfg, name):
    for part in name.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("new", V1_KEYS)
def test_downgrade_renames(new):
    cfg = get_cfg()
    old = downgrade_config(cfg, 1)
    assert old.VERSION == 1 and cfg.VERSION == 2
    assert _value(old, V1_KEYS[new]) == _value(cfg, new)
    with pytest.raises(KeyError):
        _value(old, new)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_round_trip(version):
    assert upgrade_config(downgrade_config(get_cfg(), version)) == get_cfg()


def test_version_0_keeps_the_head_name_elsewhere():
    old = downgrade_config(get_cfg(), 0)
    assert old.MODEL.RPN_HEAD.NAME == "StandardRPNHead" and "HEAD_NAME" not in old.MODEL.RPN


def test_wrong_direction():
    with pytest.raises(AssertionError):
        upgrade_config(get_cfg(), 1)
    with pytest.raises(AssertionError):
        downgrade_config(get_cfg(), 3)


@pytest.mark.parametrize(
    ("key", "version"),
    [("MODEL.WEIGHT", 1), ("TEST.AUG_ON", 1), ("MODEL.ROI_HEADS.NMS", 2), ("MODEL.WEIGHTS", 2)],
)
def test_guess_as_stock_does(key, version):
    section, _, leaf = key.rpartition(".")
    node = CfgNode({leaf: 1})
    for part in reversed(section.split(".")):
        node = CfgNode({part: node})
    assert guess_version(node, "f.yaml") == version


@pytest.mark.parametrize(("architecture", "sizes"), [("RetinaNet", [[5]]), ("GeneralizedRCNN", [[3]]), (None, [[3]])])
def test_old_file_gives_its_own_architectures_anchors(tmp_path, architecture, sizes):
    path = tmp_path / "old.yaml"
    meta = f"  META_ARCHITECTURE: {architecture}\n" if architecture else ""
    path.write_text(
        f"MODEL:\n{meta}  WEIGHT: w.pkl\n  RPN:\n    ANCHOR_SIZES: [[3]]\n"
        "  RETINANET:\n    ANCHOR_SIZES: [[5]]\n    ANCHOR_STRIDES: [8]\n"
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    assert cfg.MODEL.WEIGHTS == "w.pkl" and cfg.VERSION == 2
    assert sizes == cfg.MODEL.ANCHOR_GENERATOR.SIZES
