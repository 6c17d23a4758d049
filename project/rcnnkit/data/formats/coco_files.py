"""Which files of a folder are COCO JSON, the parts that their names say, and where their images lie."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rcnnkit.data import splits
from rcnnkit.data.tree import Tree

_LIST = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_LOOKED_AT = 1 << 16  # bytes of the beginning and of the end of a file
_MOST_FILES = 64  # that are looked into: a folder may hold a hundred thousand JSON files of another format
_OTHER_TASKS = ("captions_", "panoptic_", "image_info_")
# Names that say nothing about the part: the folder does. Roboflow's is _annotations.coco.json.
_PLAIN_NAMES = {"annotations", "annotation", "coco", "instances", "labels", "default", "result", "_annotations.coco"}


def looks_like_coco(path: Path) -> bool:
    """Whether the beginning and the end of a file show COCO's lists."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LOOKED_AT)
            if os.path.getsize(path) > 2 * _LOOKED_AT:
                file.seek(-_LOOKED_AT, os.SEEK_END)
            text += file.read(_LOOKED_AT)
    except OSError:
        return False
    if not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    found = {match.group(1) for match in _LIST.finditer(text)}
    return bool(found & {b"images", b"categories"}) or (b"annotations" in found and b'"image_id"' in text)


def annotation_files(tree: Tree) -> list[Path]:
    """The COCO files of objects below the root, or the one that the data set's path names."""
    if tree.annotation_file is not None:
        path = tree.annotation_file
        return [path] if path.suffix.lower() == ".json" and looks_like_coco(path) else []
    candidates = [path for path in tree.with_suffix(".json") if not path.name.startswith(_OTHER_TASKS)]

    def rank(path: Path) -> tuple[bool, int]:
        likely = "coco" in path.name or path.name.startswith(("instances", "person_keypoints"))
        return (not (likely or path.parent.name == "annotations"), len(path.parts))

    likeliest = sorted(candidates, key=rank)[:_MOST_FILES]
    return sorted(path for path in likeliest if looks_like_coco(path))


def named_files(tree: Tree) -> dict[str, Path]:
    """The COCO files by the part that each is: its name, that of its folder where its name says nothing, or both."""
    files = annotation_files(tree)
    for describe in (_part, lambda path, _: path.stem, lambda path, tree: tree.relative(path.with_suffix(""))):
        names = [describe(path, tree) for path in files]
        if len(set(names)) == len(names):
            return dict(zip(names, files, strict=True))
    return {tree.relative(path): path for path in files}


def _part(path: Path, tree: Tree) -> str:
    name = splits.without_task(path.stem)
    return path.parent.name if name.lower() in _PLAIN_NAMES and path.parent != tree.root else name


class ImageFinder:
    """Finds the images that one COCO file names; folders are listed once instead of asking for each file.

    Looked up in the folder of images, beside the file, in the root, in folders called like the file's part, as COCO has
    them, and in those called like the word in it that says its role (`val` for `parts_val.json`); otherwise as
    `Tree.find_image` does.
    """

    def __init__(self, tree: Tree, file: Path, part: str):
        self._tree = tree
        self._beside = file.parent
        part = splits.without_task(part)
        above = (tree.root, file.parent, file.parent.parent)
        words = [word for word in re.findall(r"[A-Za-z]+\d*", part) if splits.role(part) and splits.role(word)]
        names = [part, f"images/{part}", "images", *(f"{folder}{word}" for word in words for folder in ("", "images/"))]
        inside = [parent / name for name in names for parent in above]
        folders = [tree.images_root, file.parent, tree.root, *inside]
        self._folders = list(dict.fromkeys(str(folder) for folder in folders if folder is not None))
        self._names: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> str | None:
        """The absolute path of an image file, or None.

        Raises:
            rcnnkit.data.tree.OutsideError: the name leads out of the data set.
        """
        if name[:1] not in ("", "/", ".") and "\\" not in name and "/." not in name:
            head, _, tail = name.rpartition("/")
            for folder in self._folders:
                place = f"{folder}/{head}" if head else folder
                names = self._names.get(place)
                if names is None:
                    names = self._names[place] = self._tree.plain_files(Path(place))
                if tail in names:
                    return f"{place}/{tail}"
        found = self._tree.find_image(name, self._beside)
        return None if found is None else str(found)
