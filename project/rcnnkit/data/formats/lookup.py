"""From what an annotation file says to files of the folder: the image, its size, the split that a folder names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rcnnkit.data.images import upright_size
from rcnnkit.data.labelled import ProblemLog
from rcnnkit.data.tree import OutsideError, Tree
from rcnnkit.errors import UserError

_SPLIT_FOLDER = re.compile(r"(train|training|trainval|val|valid|validation|test|testing|dev)\d*", re.IGNORECASE)
_ANNOTATION_FOLDERS = frozenset({"annotation", "annotations", "label", "labels", "xml", "xmls"})
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs")


def find_picture(
    tree: Tree,
    names: Sequence[str],
    file: Path,
    problems: ProblemLog,
    *,
    id: str | int | None = None,
    folders: Sequence[Path] = (),
) -> Path | None:
    """The first image file that one of the `names` means; None, and a problem, where there is none.

    Looked for in `folders`, beside the annotation file `file` and in the folders of images that go with its own, then
    wherever `Tree.find_image` looks.

    Args:
        id: of the image within the annotation file, for the problem.
    """
    try:
        for name in names:
            for folder in itertools.chain(folders, _image_folders(file)):
                found = tree.find_image(name, beside=folder)
                if found is not None:
                    return found
    except OutsideError as error:
        problems.add("image-outside", tree.relative(file), str(error), id=id, field="image", value=names[0])
        return None
    advice = "there is no such image file; add it or take it out of the annotations"
    problems.add("image-missing", tree.relative(file), advice, id=id, field="image", value=names[0] if names else None)
    return None


def picture_size(tree: Tree, picture: Path, problems: ProblemLog) -> tuple[int, int] | None:
    """(width, height) of the picture as it is seen, read from the header of the file; None, and a problem, without."""
    try:
        return upright_size(picture)
    except (UserError, OSError, ValueError) as error:
        advice = f"the image cannot be read ({error}); replace it or take it out of the annotations"
        problems.add("image-unreadable", tree.relative(picture), advice)
        return None


def nothing_read(tree: Tree, files: str, problems: ProblemLog) -> UserError:
    """The error of a data set without a usable annotation file, with the first problem if there is one."""
    first = next(iter(problems), None)
    return UserError(f"{tree.root}: no {files} can be read{f'; {first}' if first else ''}")


def folder_split(tree: Tree, file: Path) -> str | None:
    """The first folder on the way from the root to the file whose name is that of a split, such as train or val2017."""
    parents = file.relative_to(tree.root).parts[:-1]
    return next((name for name in parents if _SPLIT_FOLDER.fullmatch(name)), None)


def _image_folders(file: Path) -> Iterator[Path]:
    """Beside the file, then `JPEGImages/train` for `Annotations/train` and the like."""
    yield file.parent
    for folder in (file.parent, *file.parent.parents[:2]):
        if folder.name.lower() in _ANNOTATION_FOLDERS:
            below = file.parent.relative_to(folder)
            for name in _IMAGE_FOLDERS:
                yield folder.parent / name / below
