"""Look into a checkpoint before training starts: whole, harmless, and of this architecture.

A file of pickled weights can hold code. `.pth` goes through `torch.load(weights_only=True)` in either engine; a `.pkl`
is read first by an unpickler that refuses anything but numpy arrays and plain containers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from rcnnkit.engine.fine_tuning import FineTuningCheckpointer, check_mismatch, listed, names_in, names_of_data
from rcnnkit.engine.named_rows import build_named_rows
from rcnnkit.errors import UserError
from rcnnkit.weight_files import check_pickle, unreadable


class StoredNames:
    """Names in a model's checkpoints by kind, in the order of the predicted numbers: {"classes": [...], ...}.

    The keypoints' are "keypoints".
    """

    def __init__(self, names: Mapping[str, Sequence[str]]):
        self.names = {kind: list(own) for kind, own in names.items()}

    def state_dict(self) -> dict[str, list[str]]:
        return {kind: list(own) for kind, own in self.names.items()}

    def load_state_dict(self, state: dict[str, list[str]]) -> None:
        """Nothing is taken from a checkpoint; its names were compared before the run (`stored_classes`)."""


def stored_classes(weights: str) -> list[str] | None:
    """The class names in a checkpoint of rcnnkit's trainer; None without any, or where the file cannot be read.

    Only the table of the file is read, not the weights; whether these can be used is for `check_weights` to say.
    """
    if not weights.endswith(".pth") or not Path(weights).is_file():
        return None
    try:
        return names_in(torch.load(weights, map_location="cpu", weights_only=True, mmap=True)).get("classes")
    except Exception:  # torch, zip and pickle each raise their own kinds; check_weights names them
        return None


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
        f"{weights}: was trained on other classes than DATASETS.TRAIN has: missing in the data {listed(gone)}; "
        f"new in the data {listed(new)}; {moved}use the data that it was trained on, or start from it with "
        "MODEL.WEIGHTS in another OUTPUT_DIR"
    )


class _InspectingCheckpointer(FineTuningCheckpointer):
    """Keeps what it found instead of logging it."""

    def tell(self) -> None:
        pass


def check_weights(cfg: CfgNode, weights: str, *, whole: bool, resumed: bool = False) -> None:
    """Load `weights` into a model of `cfg` on the CPU and refuse what would go wrong later.

    Args:
        cfg: the config whose `MODEL` is to be filled.
        weights: path or URL; an empty string means none and passes.
        whole: every parameter must come from the file and the file must have no others (evaluation, resuming); pixel
            means and anchors, which older files hold, are no parameters. Otherwise (fine-tuning) what
            RCNNKIT.WEIGHTS_MISMATCH allows may differ, but the backbone must be the same where the file has one.
        resumed: the run that wrote the file goes on: learnt weights of tasks must be there too, or not, as in the file.

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
    names = {} if whole else names_of_data(cfg.DATASETS.TRAIN[0])
    checkpointer = _InspectingCheckpointer(build_model(config), rows=build_named_rows(cfg), names=names)
    checkpointer.goes_on = resumed
    try:
        checkpointer.load(str(path), checkpointables=[])
    except Exception as error:  # zip, pickle, torch and safetensors each raise their own kinds
        raise UserError(unreadable(path, error)) from error
    if checkpointer.incompatible is not None:
        _compare(path, checkpointer.model, checkpointer.incompatible, whole)
        if not whole:
            check_mismatch(path, cfg.RCNNKIT.WEIGHTS_MISMATCH, checkpointer)


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
    misshaped = [f"{key} {tuple(found)} instead of {tuple(own)}" for key, found, own in incompatible.incorrect_shapes]
    misshaped_keys = {key for key, _, _ in incompatible.incorrect_shapes}
    missing = [key for key in incompatible.missing_keys if key not in misshaped_keys]
    unexpected = list(incompatible.unexpected_keys)
    parameters = dict(model.named_parameters())
    filled = [key for key in parameters if key not in misshaped_keys and key not in set(missing)]
    if whole:
        refused = bool(misshaped or missing or unexpected)
    else:
        refused = not filled or _other_backbone(missing, unexpected, misshaped_keys)
    if refused:
        raise UserError(
            f"{path}: is of another architecture ({len(filled)} of {len(parameters)} parameters match); "
            f"missing {listed(missing)}; unexpected {listed(unexpected)}; mis-shaped {listed(misshaped)}; "
            "use the config that it was trained with, or other weights"
        )


def _other_backbone(missing: list[str], unexpected: list[str], misshaped: set[str]) -> bool:
    """Whether the file's backbone differs from the model's; an ImageNet file lacks what is around `bottom_up`."""
    if any(key.startswith("backbone.") for key in (*unexpected, *misshaped)):
        return True
    lateral = ("backbone.fpn_", "backbone.top_block")
    return any(key.startswith("backbone.") and not key.startswith(lateral) for key in missing)


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
