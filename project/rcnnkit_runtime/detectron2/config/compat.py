"""Configs of older versions: keys that were renamed, carried forward (upgrade) and back (downgrade).

Version 1 is what Detectron2 had before its first public release; version 2 is current. Each converter leads from one
version to the next.
"""

import logging
from typing import Any

from detectron2.config.config import CfgNode as CN

__all__ = ["downgrade_config", "upgrade_config"]


def upgrade_config(cfg: CN, to_version: int | None = None) -> CN:
    """Return a copy of a config in a newer version's key names.

    Args:
        cfg: any config with a VERSION.
        to_version: the target; the current version by default.

    Raises:
        AssertionError: the config is newer than the target.
    """
    cfg = cfg.clone()
    target = _current_version() if to_version is None else to_version
    assert target >= cfg.VERSION, f"Cannot upgrade from v{cfg.VERSION} to v{target}!"
    for version in range(cfg.VERSION, target):
        _CONVERTERS[version + 1].upgrade(cfg)
        cfg.VERSION = version + 1
    return cfg


def downgrade_config(cfg: CN, to_version: int) -> CN:
    """Return a copy of a config in an older version's key names. Keys that did not exist then stay as they are.

    Args:
        cfg: any config with a VERSION.
        to_version: the target.

    Raises:
        AssertionError: the config is older than the target.
    """
    cfg = cfg.clone()
    assert to_version <= cfg.VERSION, f"Cannot downgrade from v{cfg.VERSION} to v{to_version}!"
    for version in range(cfg.VERSION, to_version, -1):
        _CONVERTERS[version].downgrade(cfg)
        cfg.VERSION = version - 1
    return cfg


def guess_version(cfg: CN, filename: str) -> int:
    """Tell the version of a (partial) config that does not say its own, from the key names that it uses."""
    logger = logging.getLogger(__name__)
    # Only names that no project is likely to have added for itself; v1 files without them need VERSION: 1.
    if any(_has(cfg, name) for name in ("MODEL.WEIGHT", "TEST.AUG_ON")):
        logger.warning("Config '%s' has no VERSION. Assuming it to be v1.", filename)
        return 1
    current = _current_version()
    logger.warning("Config '%s' has no VERSION. Assuming it to be compatible with latest v%d.", filename, current)
    return current


def _current_version() -> int:
    from detectron2.config.defaults import _C

    return _C.VERSION


def _parent(cfg: CN, name: str) -> CN | None:
    """The node that holds the last part of a dotted name, if there is one."""
    node: Any = cfg
    for part in name.split(".")[:-1]:
        node = node.get(part) if isinstance(node, CN) else None
    return node if isinstance(node, CN) else None


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _has(cfg: CN, name: str) -> bool:
    parent = _parent(cfg, name)
    return parent is not None and _leaf(name) in parent


def _get(cfg: CN, name: str) -> Any:
    parent = _parent(cfg, name)
    assert parent is not None, name
    return parent[_leaf(name)]


def _set(cfg: CN, name: str, value: Any) -> None:
    for part in name.split(".")[:-1]:
        cfg = cfg.setdefault(part, CN())
    cfg[_leaf(name)] = value


def _delete(cfg: CN, name: str) -> None:
    """Delete a key, and the sections that it leaves empty."""
    parent = _parent(cfg, name)
    assert parent is not None, name
    del parent[_leaf(name)]
    if not parent and "." in name:
        _delete(cfg, name.rsplit(".", 1)[0])


def _rename(cfg: CN, old: str, new: str) -> None:
    """Move a key, if it is there."""
    if _has(cfg, old):
        value = _get(cfg, old)
        _delete(cfg, old)
        _set(cfg, new, value)


class _RenameConverter:
    """Between two versions that differ in names: RENAME lists (old, new)."""

    RENAME: list[tuple[str, str]] = []

    @classmethod
    def upgrade(cls, cfg: CN) -> None:
        """Bring a config of the version before to this one, in place."""
        for old, new in cls.RENAME:
            _rename(cfg, old, new)

    @classmethod
    def downgrade(cls, cfg: CN) -> None:
        """Bring a config of this version to the one before, in place."""
        for old, new in reversed(cls.RENAME):
            _rename(cfg, new, old)


class ConverterV1(_RenameConverter):
    """Version 0 → 1."""

    RENAME = [("MODEL.RPN_HEAD.NAME", "MODEL.RPN.HEAD_NAME")]


class ConverterV2(_RenameConverter):
    """Version 1 → 2: clearer names, and one anchor generator where RPN and RetinaNet had keys of their own."""

    RENAME = [
        ("MODEL.WEIGHT", "MODEL.WEIGHTS"),
        ("MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE", "MODEL.RPN.LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE", "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.COMBINE_ON", "MODEL.PANOPTIC_FPN.COMBINE.ENABLED"),
        ("MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD", "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH"),
        ("MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT"),
        (
            "MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD",
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
        ),
        ("MODEL.ROI_HEADS.SCORE_THRESH", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        ("MODEL.ROI_HEADS.NMS", "MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        ("MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD", "MODEL.RETINANET.SCORE_THRESH_TEST"),
        ("MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES", "MODEL.RETINANET.TOPK_CANDIDATES_TEST"),
        ("MODEL.RETINANET.INFERENCE_NMS_THRESHOLD", "MODEL.RETINANET.NMS_THRESH_TEST"),
        ("TEST.DETECTIONS_PER_IMG", "TEST.DETECTIONS_PER_IMAGE"),
        ("TEST.AUG_ON", "TEST.AUG.ENABLED"),
        ("TEST.AUG_MIN_SIZES", "TEST.AUG.MIN_SIZES"),
        ("TEST.AUG_MAX_SIZE", "TEST.AUG.MAX_SIZE"),
        ("TEST.AUG_FLIP", "TEST.AUG.FLIP"),
    ]
    # (key of the anchor generator, the key under RPN or RETINANET that it took over)
    ANCHORS = [
        (f"MODEL.ANCHOR_GENERATOR.{new}", f"MODEL.{section}.{old}")
        for section in ("RPN", "RETINANET")
        for new, old in (("SIZES", "ANCHOR_SIZES"), ("ASPECT_RATIOS", "ANCHOR_ASPECT_RATIOS"))
    ]

    @classmethod
    def upgrade(cls, cfg: CN) -> None:
        super().upgrade(cfg)
        used = (
            "RETINANET"
            if _has(cfg, "MODEL.META_ARCHITECTURE") and cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
            else "RPN"
        )
        for new, old in cls.ANCHORS:
            if not _has(cfg, old):
                continue
            if f".{used}." in old:
                _rename(cfg, old, new)
            else:
                _delete(cfg, old)
        if _has(cfg, "MODEL.RETINANET.ANCHOR_STRIDES"):  # strides follow from the feature maps
            _delete(cfg, "MODEL.RETINANET.ANCHOR_STRIDES")

    @classmethod
    def downgrade(cls, cfg: CN) -> None:
        super().downgrade(cfg)
        for new, old in cls.ANCHORS:
            if _has(cfg, new):
                _set(cfg, old, _get(cfg, new))
        for new, _ in cls.ANCHORS:
            if _has(cfg, new):
                _delete(cfg, new)
        _set(cfg, "MODEL.RETINANET.ANCHOR_STRIDES", [])


_CONVERTERS: dict[int, type[_RenameConverter]] = {1: ConverterV1, 2: ConverterV2}
