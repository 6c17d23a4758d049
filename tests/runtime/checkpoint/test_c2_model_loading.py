import pytest
import torch

from detectron2.checkpoint.c2_model_loading import (
    _group_keys_by_module,
    _group_str,
    _longest_common_prefix,
    align_and_update_state_dicts,
    convert_basic_c2_names,
    convert_c2_detectron_names,
)

BASIC = {
    "conv1_w": "stem.conv1.weight",
    "conv1_b": "stem.conv1.bias",
    "res_conv1_bn_s": "stem.conv1.norm.weight",
    "res_conv1_bn_b": "stem.conv1.norm.bias",
    "res_conv1_bn_rm": "stem.conv1.norm.running_mean",
    "res_conv1_bn_riv": "stem.conv1.norm.running_var",
    "conv1_gn_s": "stem.conv1.norm.weight",
    "res2_0_branch1_w": "res2.0.shortcut.weight",
    "res2_0_branch2a_bn_s": "res2.0.conv1.norm.weight",
    "res2_0_branch2b_bn_beta": "res2.0.conv2.norm.bias",
    "res4_22_branch2c_bn_running_var": "res4.22.conv3.norm.running_var",
    "res2_0_branch2a_gn_b": "res2.0.conv1.norm.bias",
    "pred_w": "linear.weight",
    "fc1000_b": "fc1000.bias",
}

DETECTRON = {
    "conv_rpn_w": "proposal_generator.rpn_head.conv.weight",
    "rpn_cls_logits_fpn2_b": "proposal_generator.rpn_head.objectness_logits.bias",
    "rpn_bbox_pred_w": "proposal_generator.rpn_head.anchor_deltas.weight",
    "fpn_inner_res5_2_sum_w": "fpn_lateral5.weight",
    "fpn_inner_res4_22_sum_lateral_gn_s": "fpn_lateral4.norm.weight",
    "fpn_res2_2_sum_b": "fpn_output2.bias",
    "fc6_w": "box_head.fc1.weight",
    "fc7_b": "box_head.fc2.bias",
    "head_conv4_gn_s": "box_head.conv4.norm.weight",
    "_[mask]_fcn1_w": "mask_head.mask_fcn1.weight",
    "conv5_mask_b": "mask_head.deconv.bias",
    "conv_fcn8_b": "roi_heads.keypoint_head.conv_fcn8.bias",
    "kps_score_lowres_w": "roi_heads.keypoint_head.score_lowres.weight",
    "kps_score_w": "roi_heads.keypoint_head.score.weight",
}


def test_basic_names():
    assert convert_basic_c2_names(list(BASIC)) == list(BASIC.values())


def test_detectron_names():
    weights, names = convert_c2_detectron_names({blob: torch.zeros(2) for blob in DETECTRON})
    assert names == {key: blob for blob, key in DETECTRON.items()}
    assert set(weights) == set(names)


def test_background_moves_and_goes():
    weights, _ = convert_c2_detectron_names(
        {
            "cls_score_b": torch.arange(3),
            "bbox_pred_b": torch.arange(12),
            "mask_fcn_logits_b": torch.arange(3),
        }
    )
    assert weights["cls_score.bias"].tolist() == [1, 2, 0]
    assert weights["bbox_pred.bias"].tolist() == list(range(4, 12))
    assert weights["mask_head.predictor.bias"].tolist() == [1, 2]


def test_two_blobs_of_one_name():
    blobs = {"fpn_inner_res4_5_sum_lateral_w": torch.zeros(1), "fpn_inner_res4_22_sum_lateral_w": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"fpn_lateral4\.weight"):
        convert_c2_detectron_names(blobs)


def _align(model, checkpoint):
    result = align_and_update_state_dicts(
        {key: torch.zeros(size) for key, size in model.items()},
        {key: torch.full((size,), float(index)) for index, (key, size) in enumerate(checkpoint.items(), 1)},
        c2_conversion=False,
    )
    return {key: tensor[0].item() for key, tensor in result.items()}


def test_longest_suffix_wins_and_the_rest_stays():
    assert _align({"a.b.w": 2}, {"w": 2, "b.w": 2}) == {"a.b.w": 2.0, "w": 1.0}


def test_suffixes_end_at_dots():
    assert _align({"ab.w": 2}, {"b.w": 2}) == {"b.w": 1.0}


def test_model_key_shorter_than_the_checkpoint_key():
    assert _align({"b.w": 2}, {"a.b.w": 2}) == {"a.b.w": 1.0}


def test_other_shapes_do_not_match(caplog):
    assert _align({"a.w": 2}, {"w": 3}) == {"w": 1.0}
    assert "(3,)" in caplog.text


def test_one_key_for_two_layers():
    with pytest.raises(ValueError, match="multiple keys"):
        _align({"x.res2.w": 2, "y.res2.w": 2}, {"res2.w": 2})


def test_nothing_to_match(caplog):
    assert _align({"w": 2}, {}) == {}
    assert "No weights in checkpoint matched" in caplog.text


def test_caffe2_names_end_in_the_model():
    model = {"backbone.stem.conv1.weight": torch.zeros(2), "backbone.stem.conv1.norm.weight": torch.zeros(2)}
    checkpoint = {"conv1_w": torch.ones(2), "res_conv1_bn_s": torch.ones(2) * 2, "fc1000_w": torch.ones(1)}
    result = align_and_update_state_dicts(model, checkpoint)
    assert {key: value[0].item() for key, value in result.items()} == {
        "backbone.stem.conv1.weight": 1.0,
        "backbone.stem.conv1.norm.weight": 2.0,
        "fc1000.weight": 1.0,
    }


def test_names_in_short():
    assert _group_str(["ab.weight", "ab.bias"]) == "ab.{weight,bias}"
    assert _longest_common_prefix(["a.b.c", "a.b.d"]) == "a.b."
    keys = ["x.conv.weight", "x.conv.norm.bias", "y.w"]
    groups = _group_keys_by_module(keys, {key: key.upper() for key in keys})
    together = ["X.CONV.WEIGHT", "X.CONV.NORM.BIAS"]
    assert groups == {"x.conv.weight": together, "x.conv.norm.bias": together}
