"""A model begins with the weights of another one: what is taken, what starts afresh, and what the user allows of it.

RCNNKIT.WEIGHTS_MISMATCH says which parts may differ; the backbone must be the model's in any case.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from rcnnkit.engine.named_rows import NamedRows, RowChange, build_named_rows, carry_all_rows, rows_of
from rcnnkit.errors import UserError

logger = logging.getLogger(__name__)

NAMES_KEY = "rcnnkit"  # what a checkpoint of rcnnkit's trainer has beside Detectron2's entries
# What some files hold and others do not, because a config says it or it only counts: no weights.
NO_WEIGHTS = re.compile(
    r"(^|\.)(pixel_mean|pixel_std|num_batches_tracked|class_loss\.class_counts)$|anchor_generator\.cell_anchors"
)
BALANCE = "balance.log_variance."  # of RCNNKIT.TASK_BALANCE uncertainty: weighs losses, and nothing else
COUNTS = "class_loss.class_counts"  # of Seesaw: what another training has seen
MASK_HEAD = "roi_heads.mask_head."
LISTED = 8  # how many names of a kind a message has


def listed(names: Sequence[str]) -> str:
    """How many names there are, and some of them, in the order given."""
    if not names:
        return "none"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)}: {', '.join(names[:LISTED])}{more}"


def names_in(content: Any) -> dict[str, list[str]]:
    """The names of classes and keypoints in the content of a checkpoint, by kind, without what has a wrong type."""
    stored = content.get(NAMES_KEY) if isinstance(content, Mapping) else None
    if not isinstance(stored, Mapping):
        return {}
    return {
        kind: names
        for kind, names in stored.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }


def names_of_data(data_set: str) -> dict[str, list[str]]:
    """The names of classes and keypoints of a registered data set, by those of these kinds that it has."""
    metadata = MetadataCatalog.get(data_set)
    found = {"classes": metadata.get("thing_classes"), "keypoints": metadata.get("keypoint_names")}
    return {kind: list(names) for kind, names in found.items() if names}


class FineTuningCheckpointer(DetectionCheckpointer):
    """Loads a model's weights to begin with, rows of classes and keypoints by their names; it saves nothing.

    Attributes:
        changes: after `load`, the parameters of which not all names are the same.
        incompatible: missing, unexpected and mis-shaped keys, without those that are no weights.
        goes_on: the run that wrote the file goes on, with what it learnt about its losses too.
    """

    def __init__(self, model: nn.Module, *, rows: Sequence[NamedRows], names: Mapping[str, Sequence[str]]):
        """
        Args:
            model: to be filled.
            rows: which of its parameters have rows of names.
            names: of its classes and keypoints, by kind.
        """
        super().__init__(model, save_to_disk=False)
        self.rows = list(rows)
        self.names = dict(names)
        self.changes: list[RowChange] = []
        self.incompatible: Any = None
        self.goes_on = False

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        weights = {key: value for key, value in checkpoint["model"].items() if not key.endswith(COUNTS)}
        state = self.model.state_dict()
        checkpoint["model"] = weights = {_key_in(state, key): value for key, value in weights.items()}
        self.changes = carry_all_rows(weights, state, self.rows, names_in(checkpoint), self.names)
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
            keys[:] = [key for key in keys if self._counts(key)]
        self.incompatible = incompatible
        self.tell()

    def _counts(self, key: str) -> bool:
        return not NO_WEIGHTS.search(key) and (self.goes_on or not key.startswith(BALANCE))

    def tell(self) -> None:
        """Log what is not the file's."""
        super()._log_incompatible_keys(self.incompatible)
        for change in self.changes:
            logger.warning(
                "%s: %s kept %s; new %s; dropped %s", change.key, change.kind,
                *map(listed, (change.kept, change.fresh, change.dropped)),
            )  # fmt: skip
        misshaped = [key for key, _, _ in self.incompatible.incorrect_shapes]
        fresh = [key for key in self.incompatible.missing_keys if key not in misshaped]
        for words, keys in (("of another shape in the file", misshaped), ("not in the file", fresh)):
            if keys:
                logger.warning("initialised afresh, %s: %s", words, ", ".join(keys))


def _key_in(state: Collection[str], key: str) -> str:
    """The key of a mask head's weights where MaskQualityHead holds that head in the model, or did in the file."""
    rest = key.removeprefix(MASK_HEAD)
    if key in state or rest == key:
        return key
    others = (f"{MASK_HEAD}mask_head.{rest}", MASK_HEAD + rest.removeprefix("mask_head."))
    return next((other for other in others if other in state), key)


def build_fine_tuning_checkpointer(cfg: CfgNode, model: nn.Module) -> FineTuningCheckpointer:
    """For a model of `cfg` that begins to learn DATASETS.TRAIN."""
    return FineTuningCheckpointer(model, rows=build_named_rows(cfg), names=names_of_data(cfg.DATASETS.TRAIN[0]))


def check_mismatch(path: Path, allowed: str, loaded: FineTuningCheckpointer) -> None:
    """Refuse differences outside of the backbone that RCNNKIT.WEIGHTS_MISMATCH does not allow.

    Args:
        path: of the weights.
        allowed: "heads", "classes" or "none".
        loaded: after `load`.

    Raises:
        UserError: lists the parameters and what to set.
    """
    if allowed == "heads":
        return
    shapes = {
        key: f"{key} {tuple(found)} instead of {tuple(wanted)}"
        for key, found, wanted in loaded.incompatible.incorrect_shapes
    }
    of_names = [change.key for change in loaded.changes]
    of_names += [text for key, text in shapes.items() if rows_of(key, loaded.rows)]
    missing = [key for key in loaded.incompatible.missing_keys if key not in shapes]
    unexpected = list(loaded.incompatible.unexpected_keys)
    misshaped = [text for key, text in shapes.items() if not rows_of(key, loaded.rows)]
    others = bool(missing or unexpected or misshaped)
    if not others and (allowed == "classes" or not of_names):
        return
    raise UserError(
        f"{path}: differs from the model in more than RCNNKIT.WEIGHTS_MISMATCH {allowed!r} allows: of other classes or "
        f"keypoints {listed(of_names)}; missing {listed(missing)}; unexpected {listed(unexpected)}; mis-shaped "
        f"{listed(misshaped)}; set it to {'heads' if others else 'classes'!r} to initialise these afresh, or use other "
        "weights"
    )
