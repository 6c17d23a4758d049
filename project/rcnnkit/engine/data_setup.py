"""From the names in a config to data sets with one list of classes, and to the config values that follow from them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.data.class_union import own_classes, serve_with_classes, unite
from rcnnkit.data.entries import Reading
from rcnnkit.data.keypoints import sigmas
from rcnnkit.data.naming import Holdout, is_path
from rcnnkit.data.registration import register_custom_datasets, register_paths, registered
from rcnnkit.errors import UserError

logger = logging.getLogger(__name__)


def register_data(cfg: CfgNode, *, eval_only: bool = False, model_classes: Sequence[str] | None = None) -> None:
    """Register what the config names and nobody has registered, and give all data sets of the run the same classes.

    The classes are those of DATASETS.TRAIN, united by name; when evaluating `model_classes`, if they are known, else
    those of TRAIN if it names paths, else those of TEST.

    Args:
        eval_only: DATASETS.TRAIN is only looked at for classes.
        model_classes: what the checkpoint to evaluate says.

    Raises:
        UserError: data that cannot be read, or classes that the model does not have.
    """
    own = cfg.RCNNKIT
    reading = Reading(
        holdout=Holdout(own.HOLDOUT_FRACTION, own.HOLDOUT_SEED),
        prefer_keypoints=cfg.MODEL.KEYPOINT_ON,
        box_margin=own.KEYPOINT_BOX_MARGIN,
    )
    register_custom_datasets(cfg.DATASETS.CUSTOM, reading)
    train, test = list(cfg.DATASETS.TRAIN), list(cfg.DATASETS.TEST)
    if eval_only and (model_classes is not None or not any(map(is_own, train))):
        train = []
    register_paths([*train, *test], reading)
    known = [name for name in (*train, *test) if name in DatasetCatalog.list()]
    if len(known) < len(train) + len(test):
        return  # `validate_config` names what is not registered
    source = train or test
    if not all(own_classes(name) for name in source):
        return
    classes = list(model_classes) if eval_only and model_classes is not None else unite(source)
    serve_with_classes(train, test, classes)


def is_own(name: str) -> bool:
    """Whether the data set is a path or an entry of DATASETS.CUSTOM, not one that Detectron2 code registered."""
    return registered(name) is not None or (name not in DatasetCatalog.list() and is_path(name))


def set_data_keys(cfg: CfgNode, explicit: Collection[str], names: Sequence[str]) -> None:
    """Set what follows from the data, if any of the data sets is one's own: keys that the user gave keep their value.

    Args:
        explicit: dotted keys that the config file or an override sets.
        names: the data sets that the model learns from, or is evaluated on.

    Raises:
        UserError: a given value contradicts the data.
    """
    own = [entry for entry in map(registered, names) if entry is not None]
    if not own:
        return
    metadata = MetadataCatalog.get(next(name for name in names if registered(name)))
    values: dict[str, object] = {}
    classes = metadata.thing_classes
    for section in ("ROI_HEADS", "RETINANET"):
        values[f"MODEL.{section}.NUM_CLASSES"] = len(classes)
    runs = sum(
        _has_runs(annotation) for entry in own for record in entry.served for annotation in record["annotations"]
    )
    if "INPUT.MASK_FORMAT" in explicit and runs and cfg.INPUT.MASK_FORMAT == "polygon" and cfg.MODEL.MASK_ON:
        raise UserError(
            f"INPUT.MASK_FORMAT: polygon, but {runs} masks of {', '.join(names)} are run lengths; set it to bitmask"
        )
    values["INPUT.MASK_FORMAT"] = "bitmask" if runs else cfg.INPUT.MASK_FORMAT
    points = metadata.get("keypoint_names")
    if points:
        values["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"] = len(points)
        owned = metadata.get("keypoint_classes")
        if owned:
            values["MODEL.ROI_KEYPOINT_HEAD.CLASS_KEYPOINTS"] = [list(owned.get(name, ())) for name in classes]
        values["TEST.KEYPOINT_OKS_SIGMAS"] = sigmas(points)
        given = cfg.TEST.KEYPOINT_OKS_SIGMAS
        if cfg.MODEL.KEYPOINT_ON and "TEST.KEYPOINT_OKS_SIGMAS" in explicit and len(given) not in (0, len(points)):
            raise UserError(
                f"TEST.KEYPOINT_OKS_SIGMAS: {len(given)} numbers, but {names[0]} has {len(points)} keypoints "
                f"({', '.join(points)}); give one for each, or leave the key out"
            )
    for key in explicit:
        values.pop(key, None)
    for key, value in values.items():
        cfg.merge_from_list([key, value])
    logger.info("from the data: %s", ", ".join(f"{key} {value}" for key, value in values.items()) or "nothing to set")


def _has_runs(annotation: dict) -> bool:
    """Whether the annotation is an object whose mask cannot be held as polygons."""
    return (
        isinstance(annotation.get("segmentation"), dict) and not annotation["iscrowd"] and not annotation.get("ignore")
    )
