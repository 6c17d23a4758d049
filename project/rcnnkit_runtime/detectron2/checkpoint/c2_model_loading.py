"""Weights under other names: Caffe2's blob names translated, and keys matched by their longest common suffix."""

import itertools
import logging
import re
from collections.abc import Container, Sequence

import torch

# ordered: (pattern, replacement) of the parts that stand alone in front of a blob's type
_BASIC_RENAMES = (
    (r"_b$", ".bias"),
    (r"_w$", ".weight"),
    (r"_bn_s$|_gn_s$|_bn_gamma$", ".norm.weight"),
    (r"_bn\.bias$|_gn\.bias$|_bn_beta$", ".norm.bias"),
    (r"_bn_rm$|_bn_running_mean$|_bn\.running\.mean$", ".norm.running_mean"),
    (r"_bn_riv$|_bn_running_var$|_bn\.running\.var$", ".norm.running_var"),
)
_RESNET_RENAMES = (
    (r"^res\.conv1\.norm\.", "conv1.norm."),
    (r"^conv1\.", "stem.conv1."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."),
    (r"\.branch2b\.", ".conv2."),
    (r"\.branch2c\.", ".conv3."),
)
_RPN = "proposal_generator.rpn_head"
_DETECTRON_RENAMES = (
    (r"^conv\.rpn(?:\.fpn2)?\.", f"{_RPN}.conv."),
    (r"^rpn\.bbox\.pred(?:\.fpn2)?\.", f"{_RPN}.anchor_deltas."),
    (r"^rpn\.cls\.logits(?:\.fpn2)?\.", f"{_RPN}.objectness_logits."),
    (r"^fpn\.inner\.res(\d)\.\d+\.sum\.(?:lateral\.)?", r"fpn_lateral\1."),
    (r"^fpn\.res(\d)\.\d+\.sum\.", r"fpn_output\1."),
    (r"^bbox\.pred\.", "bbox_pred."),
    (r"^cls\.score\.", "cls_score."),
    (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."),
    (r"^head\.conv", "box_head.conv"),
    (r"^\.\[mask\]\.fcn(\d)\.", r"mask_head.mask_fcn\1."),
    (r"^conv5\.mask\.", "mask_head.deconv."),
    (r"^mask\.fcn\.logits\.", "mask_head.predictor."),
    (r"^conv\.fcn(\d)\.", r"roi_heads.keypoint_head.conv_fcn\1."),
    (r"^kps\.score\.lowres\.", "roi_heads.keypoint_head.score_lowres."),
    (r"^kps\.score\.", "roi_heads.keypoint_head.score."),
)


def convert_basic_c2_names(original_keys: list[str]) -> list[str]:
    """Translates Caffe2's blob names of a ResNet to module paths.

    Args:
        original_keys: e.g. "res2_0_branch2a_bn_s".

    Returns:
        The new names in the same order, e.g. "res2.0.conv1.norm.weight".
    """
    return [_convert_basic(key) for key in original_keys]


def _convert_basic(key: str) -> str:
    if key in ("pred_w", "pred_b"):  # the ImageNet classifier
        return {"pred_w": "linear.weight", "pred_b": "linear.bias"}[key]
    suffix = ""
    for pattern, replacement in _BASIC_RENAMES:
        match = re.search(pattern, key)
        if match and match.group() != "_b":
            key, suffix = key[: match.start()], replacement
            break
        if match:
            key, suffix = key[: match.start()], ".bias"
            norm = re.search(r"_[bg]n$", key)
            if norm:
                key, suffix = key[: norm.start()], ".norm.bias"
            break
    key = key.replace("_", ".") + suffix
    for pattern, replacement in _RESNET_RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def convert_c2_detectron_names(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Translates Detectron's blobs to this project's keys and class order (background last, none in regression).

    Args:
        weights: blob name to tensor.

    Returns:
        New key to tensor, and new key to blob name.

    Raises:
        ValueError: two blobs have the same new key.
    """
    logger = logging.getLogger(__name__)
    logger.info("Renaming Caffe2 weights ......")
    converted: dict[str, torch.Tensor] = {}
    names: dict[str, str] = {}
    for original in sorted(weights):
        key = convert_basic_c2_names([original])[0]
        for pattern, replacement in _DETECTRON_RENAMES:
            key = re.sub(pattern, replacement, key)
        if key in converted:
            raise ValueError(f"The Caffe2 blobs {names[key]} and {original} both become {key}.")
        converted[key] = _reorder_background(key, weights[original], logger)
        names[key] = original
    return converted, names


def _reorder_background(key: str, weight: torch.Tensor, logger: logging.Logger) -> torch.Tensor:
    """Detectron has the background as class 0; here it is the last class in scores and absent in boxes and masks."""
    if key.startswith(("bbox_pred.", "mask_head.predictor.")):
        num_dropped = 4 if key.startswith("bbox_pred.") else 1
        logger.info(
            f"Remove prediction weight for background class in {key}: {weight.shape[0]} rows, {num_dropped} off."
        )
        return weight[num_dropped:]
    if key.startswith("cls_score."):
        logger.info(f"Move classification weights for background class in {key} from first to last.")
        return torch.cat([weight[1:], weight[:1]])
    return weight


def align_and_update_state_dicts(
    model_state_dict: dict[str, torch.Tensor], ckpt_state_dict: dict[str, torch.Tensor], c2_conversion: bool = True
) -> dict[str, torch.Tensor]:
    """Renames a checkpoint's keys to the model's keys that end in them; the longest match wins.

    Args:
        model_state_dict: the model's keys and tensors.
        ckpt_state_dict: the checkpoint's keys and tensors.
        c2_conversion: translate Caffe2's names first.

    Returns:
        Matched tensors under the model's keys, then all others under their own.

    Raises:
        ValueError: one checkpoint key fits several model keys.
    """
    logger = logging.getLogger(__name__)
    if c2_conversion:
        weights, original_names = convert_c2_detectron_names(ckpt_state_dict)
    else:
        weights, original_names = dict(ckpt_state_dict), {key: key for key in ckpt_state_dict}

    result: dict[str, torch.Tensor] = {}
    matched: dict[str, str] = {}  # checkpoint key -> model key
    for model_key in sorted(model_state_dict):
        key = _longest_suffix(model_key, weights)
        if key is None or not _same_shape(key, weights[key], model_key, model_state_dict[model_key], logger):
            continue
        if key in matched:
            logger.error(
                f"Ambiguity found for {key} in checkpoint! It matches at least two keys in the model "
                f"({model_key} and {matched[key]})."
            )
            raise ValueError(
                f"Cannot match one checkpoint key to multiple keys in the model: {key} fits {matched[key]} "
                f"and {model_key}."
            )
        matched[key] = model_key
        result[model_key] = weights[key]

    _log_matches(matched, original_names, logger)
    result.update((key, weights[key]) for key in weights if key not in matched)
    return result


def _longest_suffix(model_key: str, weights: Container[str]) -> str | None:
    """The longest checkpoint key that is the model key or its end from a dot on."""
    parts = model_key.split(".")
    candidates = (".".join(parts[start:]) for start in range(len(parts)))
    return next((candidate for candidate in candidates if candidate in weights), None)


def _same_shape(
    key: str, weight: torch.Tensor, model_key: str, model_weight: torch.Tensor, logger: logging.Logger
) -> bool:
    if tuple(weight.shape) == tuple(model_weight.shape):
        return True
    logger.warning(
        f"Shape of {key} in checkpoint is {tuple(weight.shape)}, while shape of {model_key} in model is "
        f"{tuple(model_weight.shape)}. {key} will not be loaded. Please double check and see if this is desired."
    )
    return False


def _log_matches(matched: dict[str, str], original_names: dict[str, str], logger: logging.Logger) -> None:
    if not matched:
        logger.warning("No weights in checkpoint matched with model.")
        return
    from_model = {model_key: original_names[key] for key, model_key in matched.items()}
    groups = _groups(list(from_model))
    lines = [f"{_group_str(group)} <- {_group_str([from_model[key] for key in group])}" for group in groups]
    where = _longest_common_prefix(list(from_model)).rstrip(".") or "model"
    logger.info("\n".join([f"Following weights matched with submodule {where} - Total num: {len(lines)}", *lines]))


def _groups(keys: list[str]) -> list[list[str]]:
    """Keys that belong to one layer together with its normalisation, in order of first appearance."""
    grouped: dict[str, list[str]] = {}
    for key in keys:
        grouped.setdefault(key.rpartition(".")[0].removesuffix(".norm"), []).append(key)
    return list(grouped.values())


def _group_keys_by_module(keys: list[str], original_names: dict[str, str]) -> dict[str, list[str]]:
    """Each key of a layer with several keys to the original names of all of that layer's keys."""
    return {
        key: [original_names[member] for member in group] for group in _groups(keys) if len(group) > 1 for key in group
    }


def _longest_common_prefix(names: list[str]) -> str:
    """The common beginning in whole dotted parts, with the last dot: ["a.b.c", "a.b.d"] → "a.b."."""
    return "".join(part + "." for part in _common_start([name.split(".") for name in names]))


def _longest_common_prefix_str(names: list[str]) -> str:
    """The common beginning in characters."""
    return "".join(_common_start(names))


def _common_start(sequences: Sequence[Sequence[str]]) -> list[str]:
    same = itertools.takewhile(lambda items: len(set(items)) == 1, zip(*sequences))
    return [items[0] for items in same]


def _group_str(names: list[str]) -> str:
    """Names with a common beginning in short: ["ab.weight", "ab.bias"] → "ab.{weight,bias}"."""
    prefix = _longest_common_prefix_str(names)
    return prefix + "{" + ",".join(name[len(prefix) :] for name in names) + "}"
