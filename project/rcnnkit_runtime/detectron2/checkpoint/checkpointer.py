"""fvcore's checkpointer, writing files whole or not at all and reading them without running code."""

import json
import logging
import os
import zipfile
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer as _Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer, _IncompatibleKeys

from detectron2.checkpoint.load_report import LoadReport, make_report
from detectron2.checkpoint.safe_reading import CheckpointError, read_weight_file
from detectron2.utils.whole_file import write_whole

__all__ = ["Checkpointer", "PeriodicCheckpointer"]


class Checkpointer(_Checkpointer):
    """Saves and loads a model and further objects with state dicts.

    Files: `<save_dir>/<name>.pth`, and `<save_dir>/last_checkpoint` with the base name of the newest one.

    Attributes:
        incompatible: missing, unexpected and mis-shaped keys of the latest `load`; None before.
        report: the same by key, with what was loaded; `str(report)` lists all but the loaded ones.
    """

    def __init__(
        self, model: torch.nn.Module, save_dir: str = "", *, save_to_disk: bool = True, **checkpointables: Any
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.logger = logging.getLogger(__name__)
        self.incompatible: _IncompatibleKeys | None = None
        self.report: LoadReport | None = None

    def save(self, name: str, **kwargs: Any) -> None:
        """Writes `<name>.pth` with the model, the checkpointables and `kwargs`, then points `last_checkpoint` to it."""
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        for key, checkpointable in self.checkpointables.items():
            data[key] = checkpointable.state_dict()
        data.update(kwargs)

        basename = f"{name}.pth"
        if os.path.basename(basename) != basename:
            raise ValueError(f"Checkpoint name {name!r} must not contain a folder.")
        path = os.path.join(self.save_dir, basename)
        self.logger.info(f"Saving checkpoint to {path}")
        self._write(path, lambda file: torch.save(data, file), _check_torch_file)
        self.tag_last_checkpoint(basename)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Points `last_checkpoint` to a complete checkpoint."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        self._write(path, lambda file: file.write(last_filename_basename.encode()))

    def _write(self, path: str, write: Any, check: Any = None) -> None:
        if "://" in path:  # remote stores have no rename; theirs is the handler's duty
            with self.path_manager.open(path, "wb") as file:
                write(file)
        else:
            write_whole(path, write, check)

    def _load_file(self, f: str) -> dict[str, Any]:
        return read_weight_file(f)

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        """Logs fvcore's lists and one line of counts."""
        super()._log_incompatible_keys(incompatible)
        self.incompatible = incompatible
        self.report = make_report(self.model.state_dict().keys(), incompatible)
        self.logger.log(logging.INFO if self.report.is_complete else logging.WARNING, self.report.summary())


def _check_torch_file(path: str) -> None:
    """Raises if a file just written has no complete archive; the pointer must never name such a file."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"Checkpoint {path} was not written completely: is the disk full?")
    with zipfile.ZipFile(path) as archive:
        if not any(name.endswith("/data.pkl") for name in archive.namelist()):
            raise CheckpointError(f"Checkpoint {path} was not written completely: {json.dumps(archive.namelist()[:3])}")
