"""Build the model of a config before anything is written, so that a wrong name or number is one line."""

import re

import torch
from fvcore.common.registry import Registry
from torch import nn

from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.modeling.proposal_generator import RPN_HEAD_REGISTRY
from rcnnkit.errors import UserError, nearest

MISS = re.compile(r"No object named '(.*?)' found in '(.*?)' registry")
# What a wrong value raises; a plug-in's own mistakes (a name, an attribute, a type) keep their traceback.
WRONG_VALUE = (LookupError, ValueError, ArithmeticError, AssertionError, RuntimeError, ImportError)


def check_model(cfg: CfgNode) -> None:
    """Build the model of `cfg` without memory for its weights, on the meta device, or else on the CPU.

    Raises:
        UserError: a name that is not registered, with its config key and the nearest names; or a value that a module
            refuses, in that module's words.
    """
    try:
        with torch.device("meta"):
            _build(cfg, "meta")
    except Exception:  # a module may look at its values, which only another device has
        try:
            _build(cfg, "cpu")
        except WRONG_VALUE as error:
            raise UserError(_described(cfg, error)) from error


def _build(cfg: CfgNode, device: str) -> None:
    config = cfg.clone()
    config.defrost()
    config.MODEL.DEVICE = device
    model = modeling.build_model(config)
    if config.TEST.AUG.ENABLED:
        _check_augmented(config, model)


def _check_augmented(cfg: CfgNode, model: nn.Module) -> None:
    """Refuse a model that the engine's test-time augmentation does not know."""
    if cfg.MODEL.KEYPOINT_ON and cfg.MODEL.ROI_KEYPOINT_HEAD.NAME == "CoordinateKeypointHead":
        raise UserError(
            "TEST.AUG.ENABLED: True, but CoordinateKeypointHead has no heatmaps to average; set it to False"
        )
    try:
        modeling.GeneralizedRCNNWithTTA(cfg, model)
    except (AssertionError, TypeError, ValueError) as error:
        words = " ".join(str(error).split()) or "no reason given"
        raise UserError(f"TEST.AUG.ENABLED: True, but not for this model: {words}; set it to False") from error


def _described(cfg: CfgNode, error: Exception) -> str:
    words = " ".join(str(argument) for argument in error.args) or "no reason given"
    miss = MISS.search(words)
    if miss is None:
        return f"MODEL: no model can be built from this config ({type(error).__name__}: {words}); correct its values"
    name, registry = miss.groups()
    own = f"MODEL.{registry}.NAME"
    section = cfg.MODEL.get(registry)
    is_own = isinstance(section, CfgNode) and section.get("NAME") == name
    key = own if is_own else " or ".join(_keys_with(cfg.MODEL, name, "MODEL.")) or "MODEL"
    known = [entry for entry, _ in _registries().get(registry, ())]
    near = f"; nearest of the {len(known)} that are: {', '.join(nearest(name, known, 5))}" if known else ""
    return f"{key}: {name!r} is not registered in {registry}{near}; correct it, or import the module that registers it"


def _keys_with(cfg: CfgNode, value: str, prefix: str) -> list[str]:
    found: list[str] = []
    for key, entry in cfg.items():
        if isinstance(entry, CfgNode):
            found += _keys_with(entry, value, f"{prefix}{key}.")
        elif entry == value or (isinstance(entry, list | tuple) and value in entry):
            found.append(prefix + key)
    return found


def _registries() -> dict[str, Registry]:
    """The engine's registries of a model's parts, by the names that their messages use."""
    candidates = [*vars(modeling).values(), RPN_HEAD_REGISTRY]
    return {registry._name: registry for registry in candidates if isinstance(registry, Registry)}
