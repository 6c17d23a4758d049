"""Lists of records before they are loaded: which stay, what proposals they get, how many objects each class has."""

from __future__ import annotations

import logging
import math
import pickle
from typing import Any

import numpy as np
from tabulate import tabulate
from termcolor import colored

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import log_first_n

logger = logging.getLogger(__name__)


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """The records that have an annotation which is not a crowd."""
    kept = [
        record for record in dataset_dicts if any(ann.get("iscrowd", 0) == 0 for ann in record.get("annotations", ()))
    ]
    logger.info(
        f"{len(dataset_dicts) - len(kept)} images without an object to learn (none, or crowds only) are left out; "
        f"{len(kept)} stay"
    )
    return kept


def filter_images_with_few_keypoints(dataset_dicts: list[dict], min_keypoints_per_image: int) -> list[dict]:
    """The records with at least so many visible or occluded keypoints (visibility > 0), over all objects."""

    def num_labelled(record: dict) -> int:
        return sum(
            int((np.asarray(ann["keypoints"][2::3]) > 0).sum()) for ann in record["annotations"] if "keypoints" in ann
        )

    kept = [record for record in dataset_dicts if num_labelled(record) >= min_keypoints_per_image]
    logger.info(
        f"{len(dataset_dicts) - len(kept)} images have fewer than {min_keypoints_per_image} keypoints and are left out"
    )
    return kept


def load_proposals_into_dataset(dataset_dicts: list[dict], proposal_file: str) -> list[dict]:
    """Add precomputed proposals to the records, in place, best first.

    Args:
        dataset_dicts: records with "image_id".
        proposal_file: a pickle of arrays and plain containers (anything else is refused) with "ids" or "indexes"
            (image ids), "boxes" (list of (N, 4)), "objectness_logits" or "scores" (list of (N,)), "bbox_mode"
            (default XYXY_ABS).
    """
    logger.info(f"Proposals for {len(dataset_dicts)} images come from {proposal_file}")
    with PathManager.open(proposal_file, "rb") as file:
        proposals = _PlainUnpickler(file, encoding="latin1").load()
    for old, new in (("indexes", "ids"), ("scores", "objectness_logits")):
        if old in proposals:
            proposals[new] = proposals.pop(old)
    missing = [key for key in ("ids", "boxes", "objectness_logits") if key not in proposals]
    if missing:
        raise ValueError(f"{proposal_file}: no '{missing[0]}' in the proposal file; it has {sorted(proposals)}")
    position_of = {str(image_id): position for position, image_id in enumerate(proposals["ids"])}
    bbox_mode = BoxMode(proposals.get("bbox_mode", BoxMode.XYXY_ABS))
    for record in dataset_dicts:
        position = position_of.get(str(record["image_id"]))
        if position is None:
            raise ValueError(f"{proposal_file}: no proposals for image_id {record['image_id']}")
        logits = proposals["objectness_logits"][position]
        best_first = logits.argsort()[::-1]
        record["proposal_boxes"] = proposals["boxes"][position][best_first]
        record["proposal_objectness_logits"] = logits[best_first]
        record["proposal_bbox_mode"] = bbox_mode
    return dataset_dicts


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain containers; a file that names anything else is refused before it runs."""

    _ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.numeric", "_frombuffer"),
        ("collections", "OrderedDict"),
        ("detectron2.structures.boxes", "BoxMode"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _box_mode_named  # some Python versions write an enum's member as getattr(BoxMode, name)
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"refused: the file asks for {module}.{name}, which is not plain data")
        return super().find_class(module, name)


def _box_mode_named(owner: Any, name: str) -> BoxMode:
    if owner is not BoxMode or name not in BoxMode.__members__:
        raise pickle.UnpicklingError(
            f"refused: the file asks for getattr({owner!r}, {name!r}), which is not plain data"
        )
    return BoxMode[name]


_NAME_LENGTH = 24  # characters of a class name in the table
_PAIRS_PER_ROW = 3  # of class and count


def _count_objects(records: list[dict], num_classes: int) -> np.ndarray:
    """How many objects, crowds left out, each class has: (num_classes,) int64.

    Raises ValueError naming the image for a class outside of [0, num_classes).
    """
    counts = np.zeros(num_classes, dtype=np.int64)
    for record in records:
        for annotation in record["annotations"]:
            if annotation.get("iscrowd", 0):
                continue
            category = annotation["category_id"]
            if not 0 <= category < num_classes:
                raise ValueError(
                    f"{record.get('file_name', 'an image')}: category_id {category} (image_id "
                    f"{record.get('image_id', 'unknown')}) is not in [0, {num_classes}), the range of the classes"
                )
            counts[category] += 1
    return counts


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: list[str]) -> None:
    """Log a table of how many objects (crowds left out) each class has.

    Raises ValueError naming the image for a category_id outside of [0, number of classes).
    """
    counts = _count_objects(dataset_dicts, len(class_names))
    pairs = [(name[:_NAME_LENGTH], count) for name, count in zip(class_names, counts.tolist())]
    # down the columns, as one reads a list
    height = max(1, math.ceil(len(pairs) / _PAIRS_PER_ROW))
    rows = [[cell for pair in pairs[row::height] for cell in pair] for row in range(height)]
    headers = ["class", "objects"] * (len(rows[0]) // 2)
    log_first_n(
        logging.INFO,
        f"{int(counts.sum())} objects of {len(class_names)} classes in {len(dataset_dicts)} images:\n"
        + colored(tabulate(rows, headers=headers, tablefmt="github"), "cyan"),
        key="message",
    )
