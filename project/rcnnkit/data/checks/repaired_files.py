"""The repaired data set as COCO JSON files, with a list of every change."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rcnnkit.data.checks.places import Places
from rcnnkit.data.checks.repair import repaired_data
from rcnnkit.data.checks.run import Checked
from rcnnkit.data.labelled import ProblemLog
from rcnnkit.data.writers.coco import write_coco
from rcnnkit.errors import UserError
from rcnnkit.files import write_bytes


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was written."""

    files: list[Path]  # COCO JSON, one for each part
    list_file: Path  # text, one change a line
    changes: list[str]
    images: Path  # the folder to which the file names in the JSON are relative

    def describe(self) -> str:
        """Two lines: what was written, and how to look at it."""
        names = ", ".join(str(path) for path in self.files)
        target = self.files[0] if len(self.files) == 1 else self.files[0].parent
        return (
            f"{len(self.changes)} changes, listed in {self.list_file}; written: {names}\n"
            f"see what stays: rcnnkit data check {target} --images {self.images}"
        )


def write_repaired(checked: Checked, out: Path) -> Repaired:
    """Write what `repaired_data` makes of a data set; the data set itself is not touched.

    Args:
        out: a folder, in which a single part becomes `annotations.json` and each of several `<part>.json`; or, for a
            single part, the file. The changes are in `changes.txt` beside it, for a file in `<name>_changes.txt`.

    Raises:
        UserError: a place in the data set's own folder, or one file for several parts.
    """
    for folder in (checked.tree.root, checked.tree.images_root):
        if folder is not None and out.resolve().is_relative_to(folder):
            raise UserError(f"--fix {out}: lies in the data set {folder}, which is never modified; name another folder")
    is_file = out.suffix.lower() == ".json"
    if is_file and len(checked.parts) > 1:
        parts = ", ".join(str(split) for split in checked.parts)
        raise UserError(f"--fix {out}: one file cannot hold the parts {parts}; name a folder, or one part with --split")
    images = _folder_of_images(checked)
    files = []
    changes = [f"not taken over: {problem}" for problem in checked.left_out]
    for split, data in checked.parts.items():
        repaired, lines = repaired_data(data, Places(checked.tree, data), checked.states)
        changes += lines
        name = "annotations" if len(checked.parts) == 1 else str(split).replace("/", "_")
        files.append(out if is_file else out / f"{name}.json")
        unwritable = ProblemLog()
        write_coco(repaired, files[-1], images, problems=unwritable)
        changes += [f"not taken over: {problem}" for problem in unwritable]
    list_file = out.with_name(f"{out.stem}_changes.txt") if is_file else out / "changes.txt"
    write_bytes(list_file, "".join(f"{' '.join(line.split())}\n" for line in changes).encode())
    return Repaired(files, list_file, changes, images)


def _folder_of_images(checked: Checked) -> Path:
    """The folder of images or the root, whichever holds all images."""
    names = [record["file_name"] for data in checked.parts.values() for record in data.records]
    for folder in (checked.tree.images_root, checked.tree.root):
        if folder is not None and all(Path(name).is_relative_to(folder) for name in names):
            return folder
    return Path(os.path.commonpath([os.path.dirname(name) for name in names]))
