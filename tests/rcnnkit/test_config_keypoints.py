"""The keys of the keypoint heads, and what is refused before a model is built."""

import pytest

from detectron2.config import get_cfg
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.config_keypoints import check_keypoint_head
from rcnnkit.errors import UserError

HEAD = "MODEL.ROI_KEYPOINT_HEAD."


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", 2, HEAD + "NUM_KEYPOINTS", 3])
    return cfg


def test_defaults_and_lists_of_classes_pass(cfg):
    check_keypoint_head(cfg)
    cfg.MODEL.ROI_KEYPOINT_HEAD.CLASS_KEYPOINTS = [[0, 2], []]
    check_keypoint_head(cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SUBPIXEL.SIGMA", 0.0, r"SUBPIXEL\.SIGMA: 0\.0; give a finite number above 0"),
        ("SUBPIXEL.SIGMA", float("nan"), r"SUBPIXEL\.SIGMA: nan; give a finite number above 0"),
        ("COORDINATE.SIGMA", -1.0, r"COORDINATE\.SIGMA: -1\.0; give a finite number above 0"),
        ("COORDINATE.BINS_PER_CELL", 0, r"BINS_PER_CELL: 0; give 1 or more"),
        ("CLASS_KEYPOINTS", [[0]], "CLASS_KEYPOINTS: 1 lists, but there are 2 classes"),
        ("CLASS_KEYPOINTS", [[0], [1, 3]], r"class 1 has the point 3, but NUM_KEYPOINTS is 3; indices go from 0 to 2"),
    ],
)
def test_refused_with_key_value_and_advice(cfg, key, value, message):
    cfg.merge_from_list([HEAD + key, value])
    with pytest.raises(UserError, match=message) as caught:
        check_keypoint_head(cfg)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", ["SubpixelKeypointHead", "CoordinateKeypointHead", "KRCNNConvDeconvUpsampleHead"])
@pytest.mark.parametrize("section", ["SUBPIXEL", "COORDINATE"])
def test_an_infinite_sigma_whatever_the_head(cfg, head, section):
    cfg.merge_from_list([HEAD + "NAME", head, f"{HEAD}{section}.SIGMA", "1e999"])
    with pytest.raises(UserError, match=rf"{section}\.SIGMA: inf; give a finite number above 0"):
        check_keypoint_head(cfg)
