"""The images that go with written annotations: copied or linked, under names that no two of them share."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from rcnnkit.errors import UserError

MODES = ("copy", "link", "leave")


def picture_names(files: Iterable[str]) -> dict[str, str]:
    """A file name for each image: its own where no other has the same, upper and lower case and suffix disregarded.

    Others are called by the way to them from the folder that all have in common, `a/b/1.jpg` → `a__b__1.jpg`, and
    where these too are the same, they are numbered.
    """
    files = list(dict.fromkeys(files))
    start = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    stems = Counter(Path(file).stem.lower() for file in files)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for file in sorted(files, key=lambda file: (stems[Path(file).stem.lower()] > 1, file)):
        name = Path(file).name
        if stems[Path(file).stem.lower()] > 1:
            name = os.path.relpath(file, start).replace(os.sep, "__")
        stem, suffix, number = Path(name).stem, Path(name).suffix, 1
        while Path(name).stem.lower() in taken:
            number += 1
            name = f"{stem}_{number}{suffix}"
        taken.add(Path(name).stem.lower())
        names[file] = name
    return {file: names[file] for file in files}


def place_pictures(targets: Mapping[str, Path], mode: str) -> None:
    """Copy images, or make hard links to them, which take no space and stay if the original is deleted.

    Args:
        targets: where each image file goes.
        mode: of `MODES`; with `leave` nothing is done.

    Raises:
        UserError: an image that cannot be read, or linked.
    """
    if mode == "leave":
        return
    for source, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if mode == "link":
                os.link(os.path.realpath(source), target)
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            advice = "copy instead: leave --link out" if mode == "link" else "see whether it can be read"
            raise UserError(f"{source}: cannot be put into the new folder ({error.strerror}); {advice}") from error
