"""torchvision's weights under this project's keys: ResNet backbones, Faster, Mask and Keypoint R-CNN with FPN.

Source: the state dicts of `torchvision.models.resnet*` and `torchvision.models.detection.*_resnet50_fpn`, v1 and v2.
What a config has to say for equal outputs is in `configs/torchvision/`.
"""

import logging
import re
from collections.abc import Mapping, Sequence

import torch

logger = logging.getLogger(__name__)

OUR_NORM_EPS = 1e-5
NUM_TORCHVISION_COCO_ROWS = 91
# torchvision numbers its classes by COCO's category ids, of which these are not in use
_COCO_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_CATEGORY_IDS = tuple(id_ for id_ in range(1, NUM_TORCHVISION_COCO_ROWS) if id_ not in _COCO_UNUSED_IDS)

_RESNET_NAMES = (
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^fc\.", "linear."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)
_RPN = "proposal_generator.rpn_head."
_DETECTOR_NAMES = (
    (r"^rpn\.head\.cls_logits\.", f"{_RPN}objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", f"{_RPN}anchor_deltas."),
    (r"^roi_heads\.box_head\.fc6\.", "roi_heads.box_head.fc1."),
    (r"^roi_heads\.box_head\.fc7\.", "roi_heads.box_head.fc2."),
    # v2: four convolutions with normalisation, then (behind the flattening) one linear layer
    (r"^roi_heads\.box_head\.5\.", "roi_heads.box_head.fc1."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", r"roi_heads.mask_head.mask_fcn\1."),
    (r"^roi_heads\.mask_predictor\.conv5_mask\.", "roi_heads.mask_head.deconv."),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits\.", "roi_heads.mask_head.predictor."),
    (r"^roi_heads\.keypoint_predictor\.kps_score_lowres\.", "roi_heads.keypoint_head.score_lowres."),
)
_FPN_PARTS = {"inner_blocks": "fpn_lateral", "layer_blocks": "fpn_output"}
_CONV_PARTS = {"0": "", "1": "norm."}


def is_torchvision_resnet(keys: Sequence[str] | Mapping[str, object]) -> bool:
    """Whether these are the keys of torchvision's ResNet (or ResNeXt)."""
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(keys)


def is_torchvision_detector(keys: Sequence[str] | Mapping[str, object]) -> bool:
    """Whether these are the keys of a torchvision R-CNN with a ResNet and FPN."""
    return {"backbone.body.conv1.weight", "rpn.head.cls_logits.weight", "roi_heads.box_predictor.cls_score.weight"} <= (
        set(keys)
    )


def convert_torchvision_resnet(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys of a torchvision ResNet as `stem.conv1.weight`, `res2.0.conv1.norm.bias` …; the classifier is `linear`.

    Args:
        weights: its state dict.
    """
    return {_resnet_name(key): tensor for key, tensor in weights.items()}


def _resnet_name(key: str) -> str:
    key = re.sub(r"^layer(\d)\.", lambda found: f"res{int(found.group(1)) + 1}.", key)
    for pattern, replacement in _RESNET_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def convert_torchvision_detector(
    weights: Mapping[str, torch.Tensor],
    norm_eps: float | None = None,
    category_ids: Sequence[int] | None = None,
) -> dict[str, torch.Tensor]:
    """A torchvision R-CNN under this project's keys and class order (background last, none in boxes and masks).

    Args:
        weights: its state dict.
        norm_eps: the epsilon of the backbone's batch normalisation. torchvision runs the frozen normalisation of its
            published v1 models with 0 and all others with 1e-5; None decides by the batch counters, which frozen
            normalisation lacks. Another value than ours is worked into the scales.
        category_ids: which of torchvision's classes (rows; 0 is the background) become classes 0, 1 …; all by default.

    Returns:
        New keys to tensors; a key that is not known stays as it is.
    """
    if norm_eps is None:
        norm_eps = OUR_NORM_EPS if any(key.endswith("num_batches_tracked") for key in weights) else 0.0
    is_deep = any(key.startswith("rpn.head.conv.1.") for key in weights)
    converted = {}
    for key, tensor in weights.items():
        name = _detector_name(key, is_deep)
        converted[name] = _reorder_classes(name, tensor, category_ids)
    if norm_eps != OUR_NORM_EPS:
        _absorb_norm_eps(converted, norm_eps)
    return converted


def _detector_name(key: str, is_deep_rpn: bool) -> str:
    if key.startswith("backbone.body."):
        return "backbone.bottom_up." + _resnet_name(key.removeprefix("backbone.body."))
    # older files have one level less where later ones hold convolution (0) and normalisation (1)
    if found := re.match(r"backbone\.fpn\.(inner_blocks|layer_blocks)\.(\d)\.(?:([01])\.)?(\w+)$", key):
        part, level, inner, rest = found.groups()
        return f"backbone.{_FPN_PARTS[part]}{int(level) + 2}.{_CONV_PARTS[inner or '0']}{rest}"
    if found := re.match(r"rpn\.head\.conv\.(?:(\d)\.0\.)?(\w+)$", key):
        index, rest = found.groups()
        return f"{_RPN}conv.conv{index}.{rest}" if is_deep_rpn else f"{_RPN}conv.{rest}"
    if found := re.match(r"roi_heads\.(box_head|mask_head)\.([0-3])\.([01])\.(\w+)$", key):
        head, index, inner, rest = found.groups()
        layer = "conv" if head == "box_head" else "mask_fcn"
        return f"roi_heads.{head}.{layer}{int(index) + 1}.{_CONV_PARTS[inner]}{rest}"
    if found := re.match(r"roi_heads\.keypoint_head\.(\d+)\.(\w+)$", key):
        # convolutions and activations in turn
        return f"roi_heads.keypoint_head.conv_fcn{int(found.group(1)) // 2 + 1}.{found.group(2)}"
    for pattern, replacement in _DETECTOR_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _reorder_classes(name: str, tensor: torch.Tensor, category_ids: Sequence[int] | None) -> torch.Tensor:
    """torchvision has the background first everywhere; here it is last in scores and absent in boxes and masks."""
    is_scores = name.startswith("roi_heads.box_predictor.cls_score.")
    is_boxes = name.startswith("roi_heads.box_predictor.bbox_pred.")
    if not (is_scores or is_boxes or name.startswith("roi_heads.mask_head.predictor.")):
        return tensor
    rows = tensor.unflatten(0, (-1, 4)) if is_boxes else tensor
    kept = list(range(1, len(rows))) if category_ids is None else list(category_ids)
    rows = rows[kept + [0]] if is_scores else rows[kept]
    return rows.flatten(0, 1) if is_boxes else rows


def _absorb_norm_eps(weights: dict[str, torch.Tensor], norm_eps: float) -> None:
    """Scale the backbone's normalisation so that ours, with its own epsilon, computes the same; in place."""
    for key in [key for key in weights if key.startswith("backbone.bottom_up.") and key.endswith(".running_var")]:
        variance = weights[key].double()
        scale = key.removesuffix("running_var") + "weight"
        # a channel without any variance: torchvision's own output would not be finite
        factor = ((variance + OUR_NORM_EPS) / (variance + norm_eps).clamp(min=1e-30)).sqrt()
        weights[scale] = (weights[scale].double() * factor).to(weights[scale].dtype)


def converted_from_torchvision(
    weights: Mapping[str, torch.Tensor], model_state: Mapping[str, torch.Tensor], norm_eps: float | None = None
) -> tuple[dict[str, torch.Tensor], bool] | None:
    """Weights under this project's keys, if the file is torchvision's and the model is not itself written that way.

    Args:
        weights: the file's keys, without a prefix of parallel training, and tensors.
        model_state: the model's.
        norm_eps: see `convert_torchvision_detector`.

    Returns:
        The converted weights, and whether they are to be matched by suffix (a backbone's are); else None.
    """
    if is_torchvision_detector(weights) and not is_torchvision_detector(model_state):
        key = "roi_heads.box_predictor.cls_score.weight"
        category_ids = None
        num_rows, num_model_rows = len(weights[key]), len(model_state.get(key, ()))
        if (num_rows, num_model_rows) == (NUM_TORCHVISION_COCO_ROWS, len(COCO_CATEGORY_IDS) + 1):
            category_ids = COCO_CATEGORY_IDS
            logger.info("Of torchvision's 90 classes the 80 that COCO uses are taken.")
        logger.info("The weights are those of a torchvision R-CNN: keys and class order are converted.")
        converted = convert_torchvision_detector(weights, norm_eps, category_ids)
        return _without_idle_counters(converted, model_state), False
    if is_torchvision_resnet(weights) and not any(key.endswith("layer1.0.conv1.weight") for key in model_state):
        logger.info("The weights are those of a torchvision ResNet: keys are converted.")
        return _without_idle_counters(convert_torchvision_resnet(weights), model_state), True
    return None


def _without_idle_counters(
    weights: dict[str, torch.Tensor], model_state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Leave out the batch counters of normalisation that the model has frozen."""
    counters = tuple(key for key in model_state if key.endswith("num_batches_tracked"))
    return {
        key: tensor
        for key, tensor in weights.items()
        if not key.endswith("num_batches_tracked") or any(f".{name}".endswith(f".{key}") for name in counters)
    }
