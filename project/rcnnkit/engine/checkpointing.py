"""Look into a checkpoint before training starts: whole, harmless, and of this architecture.

A file of pickled weights can hold code. `.pth` goes through `torch.load(weights_only=True)` in either engine; a `.pkl`
is read first by an unpickler that refuses anything but numpy arrays and plain containers.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from rcnnkit.errors import UserError
from rcnnkit.weight_files import check_pickle, unreadable

# What some files hold and others do not, because a config says it or it only counts steps: no weights.
NO_WEIGHTS = re.compile(r"(^|\.)(pixel_mean|pixel_std|num_batches_tracked)$|anchor_generator\.cell_anchors")
CLASSES_KEY = "rcnnkit"  # what a checkpoint of rcnnkit's trainer has beside Detectron2's entries
LISTED = 8  # how many keys of a kind a message names


class ClassNames:
    """The names of a model's classes in its checkpoints: {"classes": [...]}, in the order of the predicted numbers."""

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)

    def state_dict(self) -> dict[str, list[str]]:
        return {"classes": list(self.classes)}

    def load_state_dict(self, state: dict[str, list[str]]) -> None:
        """Nothing is taken from a checkpoint; its names were compared before the run (`stored_classes`)."""


def stored_classes(weights: str) -> list[str] | None:
    """The class names in a checkpoint of rcnnkit's trainer; None without any, or where the file cannot be read.

    Only the table of the file is read, not the weights; whether these can be used is for `check_weights` to say.
    """
    if not weights.endswith(".pth") or not Path(weights).is_file():
        return None
    try:
        content = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
        classes = content[CLASSES_KEY]["classes"]
    except Exception:  # torch, zip and pickle each raise their own kinds; check_weights names them
        return None
    return list(classes) if isinstance(classes, list) and all(isinstance(one, str) for one in classes) else None


def check_same_classes(weights: str, stored: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse to go on training a checkpoint whose classes are others, or stand in another order.

    Raises:
        UserError: names what is missing, new or moved.
    """
    if list(stored) == list(classes):
        return
    gone = [one for one in stored if one not in classes]
    new = [one for one in classes if one not in stored]
    moved = "" if gone or new else f"their order is {', '.join(stored)} there and {', '.join(classes)} in the data; "
    raise UserError(
        f"{weights}: was trained on other classes than DATASETS.TRAIN has: missing in the data {_listed(gone)}; "
        f"new in the data {_listed(new)}; {moved}use the data that it was trained on, or start from it with "
        "MODEL.WEIGHTS in another OUTPUT_DIR"
    )


class _InspectingCheckpointer(DetectionCheckpointer):
    """Keeps the comparison of keys instead of logging it."""

    incompatible = None

    def _log_incompatible_keys(self, incompatible):
        self.incompatible = incompatible


def check_weights(cfg: CfgNode, weights: str, *, whole: bool) -> None:
    """Load `weights` into a model of `cfg` on the CPU and refuse what would go wrong later.

    Args:
        cfg: the config whose `MODEL` is to be filled.
        weights: path or URL; an empty string means none and passes.
        whole: every parameter must come from the file and the file must have no others (evaluation, resuming); pixel
            means and anchors, which older files hold, are no parameters. Otherwise (fine-tuning) heads may differ, as
            they do for other classes, but the backbone must be the same where the file has one.

    Raises:
        UserError: the file is missing, empty, truncated, holds code, or belongs to another architecture; then the
            missing, unexpected and mis-shaped keys are listed.
    """
    if not weights:
        if whole:
            raise UserError("no weights to evaluate: name a checkpoint with MODEL.WEIGHTS <file>, or use --resume")
        return
    path = local_checkpoint(weights)
    if path.suffix == ".pkl":
        check_pickle(path)
    config = cfg.clone()
    config.defrost()
    config.MODEL.DEVICE = "cpu"
    checkpointer = _InspectingCheckpointer(build_model(config))
    try:
        checkpointer.load(str(path), checkpointables=[])
    except Exception as error:  # zip, pickle, torch and safetensors each raise their own kinds
        raise UserError(unreadable(path, error)) from error
    if checkpointer.incompatible is not None:
        _compare(path, checkpointer.model, checkpointer.incompatible, whole)


def local_checkpoint(weights: str) -> Path:
    """The file behind a path or URL, which must exist and not be empty."""
    try:
        path = Path(PathManager.get_local_path(weights))
    except Exception as error:  # iopath raises what its protocol's client raises
        raise UserError(
            f"MODEL.WEIGHTS {weights}: cannot be fetched ({error}); download it and name the file"
        ) from error
    if not path.is_file():
        raise UserError(f"MODEL.WEIGHTS {weights}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"MODEL.WEIGHTS {weights}: the file is empty; copy it again")
    return path


def _compare(path: Path, model: torch.nn.Module, incompatible, whole: bool) -> None:
    misshaped = [
        f"{key} {tuple(found)} instead of {tuple(wanted)}" for key, found, wanted in incompatible.incorrect_shapes
    ]
    misshaped_keys = {key for key, _, _ in incompatible.incorrect_shapes}
    missing = [key for key in incompatible.missing_keys if key not in misshaped_keys and not NO_WEIGHTS.search(key)]
    unexpected = [key for key in incompatible.unexpected_keys if not NO_WEIGHTS.search(key)]
    parameters = dict(model.named_parameters())
    filled = [key for key in parameters if key not in misshaped_keys and key not in set(missing)]
    if whole:
        refused = bool(misshaped or missing or unexpected)
    else:
        refused = not filled or _other_backbone(missing, unexpected, misshaped_keys)
    if refused:
        raise UserError(
            f"{path}: is of another architecture ({len(filled)} of {len(parameters)} parameters match); "
            f"missing {_listed(missing)}; unexpected {_listed(unexpected)}; mis-shaped {_listed(misshaped)}; "
            "use the config that it was trained with, or other weights"
        )


def _other_backbone(missing: list[str], unexpected: list[str], misshaped: set[str]) -> bool:
    """Whether the file's backbone differs from the model's; an ImageNet file lacks what is around `bottom_up`."""
    if any(key.startswith("backbone.") for key in (*unexpected, *misshaped)):
        return True
    lateral = ("backbone.fpn_", "backbone.top_block")
    return any(key.startswith("backbone.") and not key.startswith(lateral) for key in missing)


def _listed(keys: list[str]) -> str:
    if not keys:
        return "none"
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{len(keys)}: {', '.join(sorted(keys)[:LISTED])}{more}"


def last_checkpoint(output_dir: str) -> str:
    """The checkpoint that `--resume` continues from, as `OUTPUT_DIR/last_checkpoint` names it, or an empty string."""
    pointer = Path(output_dir) / "last_checkpoint"
    if not pointer.is_file():
        return ""
    named = Path(output_dir) / pointer.read_text(encoding="utf-8").strip()
    if not named.is_file():
        raise UserError(
            f"{pointer} names {named.name}, which is not in {output_dir}; name another checkpoint in it, or delete it"
        )
    return str(named)
