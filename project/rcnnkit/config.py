"""The plug-in's config keys, and the checks that a config passes before anything is built or written."""

import difflib
from collections.abc import Iterable

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

OPTIMIZERS = ("SGD", "ADAMW")


class ConfigError(ValueError):
    """A config that cannot work; the message is one line that names the key, the value and what to do."""


def add_rcnnkit_config(cfg: CfgNode) -> None:
    """Add the keys of rcnnkit, each with its default, to a config of the engine."""
    cfg.RCNNKIT = CfgNode()
    # Optimiser of all weights: "SGD" (momentum, as SOLVER.MOMENTUM and SOLVER.NESTEROV say) or "ADAMW".
    # AdamW: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, https://arxiv.org/abs/1711.05101
    # Learning rate, weight decay and clipping are SOLVER.* for both; AdamW wants about 1/20 of SGD's BASE_LR.
    cfg.RCNNKIT.OPTIMIZER = "SGD"
    # AdamW's decay rates of the gradient's first and second moment (no unit, 0 ≤ β < 1); defaults of the paper.
    cfg.RCNNKIT.ADAMW_BETAS = (0.9, 0.999)


def validate_config(cfg: CfgNode) -> None:
    """Check what can be known from the config and the catalogs alone.

    Raises:
        ConfigError: an unknown optimiser, an unregistered data set, or a number of classes or keypoints that
            contradicts what a registered data set says about itself.
    """
    if cfg.RCNNKIT.OPTIMIZER.upper() not in OPTIMIZERS:
        raise ConfigError(
            f"RCNNKIT.OPTIMIZER: {cfg.RCNNKIT.OPTIMIZER!r} is unknown; choose one of {', '.join(OPTIMIZERS)}"
        )
    if not all(0 <= beta < 1 for beta in cfg.RCNNKIT.ADAMW_BETAS):
        raise ConfigError(f"RCNNKIT.ADAMW_BETAS: {tuple(cfg.RCNNKIT.ADAMW_BETAS)}, each must lie in 0 ≤ β < 1")
    for key in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[key]:
            _check_registered(f"DATASETS.{key}", name)
            _check_classes(cfg, name)
            if cfg.MODEL.KEYPOINT_ON:
                _check_keypoints(cfg, name)


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """All known names, those spelled most like `name` first."""
    return sorted(known, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))


def _check_registered(key: str, name: str) -> None:
    known = list(DatasetCatalog.list())
    if name not in known:
        listing = nearest_first(name, known)
        rest = f" and {len(listing) - 12} more" if len(listing) > 12 else ""
        raise ConfigError(
            f"{key}: the data set {name!r} is not registered; registered are {', '.join(listing[:12])}{rest}"
        )


def _check_classes(cfg: CfgNode, name: str) -> None:
    classes = MetadataCatalog.get(name).get("thing_classes")
    # A model without RoI heads finds objects of any class: it has no number of classes.
    if not classes or cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":
        return
    if len(classes) != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        raise ConfigError(
            f"MODEL.ROI_HEADS.NUM_CLASSES: {cfg.MODEL.ROI_HEADS.NUM_CLASSES}, but the data set {name!r} has "
            f"{len(classes)} classes ({', '.join(classes[:8])}{', …' if len(classes) > 8 else ''}); "
            f"set it to {len(classes)}"
        )


def _check_keypoints(cfg: CfgNode, name: str) -> None:
    names = MetadataCatalog.get(name).get("keypoint_names")
    if not names:
        raise ConfigError(
            f"MODEL.KEYPOINT_ON: True, but the data set {name!r} names no keypoints (metadata keypoint_names)"
        )
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if count != len(names):
        raise ConfigError(
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS: {count}, but the data set {name!r} has {len(names)} keypoints "
            f"({', '.join(names)}); set it to {len(names)}"
        )
