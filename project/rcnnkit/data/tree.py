"""The files of a data set's folder, listed once, and the way from a name in an annotation file to an image file.

Nothing outside the root (or the folder of images that the user names) is ever opened: absolute names, names that climb
out with `..`, and symbolic links that lead out are refused.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Container
from pathlib import Path, PurePosixPath, PureWindowsPath

from rcnnkit.data.labelled import ProblemLog
from rcnnkit.errors import UserError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
ANNOTATION_SUFFIXES = frozenset({".csv", ".data", ".json", ".names", ".txt", ".xml", ".yaml", ".yml", ".labels"})


class OutsideError(ValueError):
    """A name that leads out of the data set's folder."""


class Tree:
    """A data set's folder.

    Args:
        path: the folder, or one annotation file in it.
        images: the folder that holds the images, if it is not below `path`.

    Raises:
        UserError: a path that is not there, or a folder of images that is not.
    """

    def __init__(self, path: str | Path, images: str | Path | None = None):
        path = Path(path)
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; correct the path of the data set")
        if images is not None and not Path(images).is_dir():
            raise UserError(f"{images}: no such folder of images; correct it")
        self.root = (path if path.is_dir() else path.parent).resolve()
        self.annotation_file = None if path.is_dir() else self.root / path.name
        self.images_root = None if images is None else Path(images).resolve()
        if self.annotation_file is not None and not self._is_inside(self.annotation_file.resolve()):
            raise UserError(
                f"{path}: is a link out of its folder, to {self.annotation_file.resolve()}; name that file itself, "
                "with the folder of the images, or copy it"
            )

    @functools.cached_property
    def files(self) -> list[Path]:
        """All files below the root, absolute and sorted; hidden ones, links to nothing and `links_out` are left out."""
        outside = set(self.links_out)
        return [path for path in self._listed[0] if path not in outside] if outside else self._listed[0]

    @functools.cached_property
    def links_out(self) -> list[Path]:
        """Links out of the data set that look like annotation files: nothing reads them."""
        links = [path for path in self._listed[1] if path.suffix.lower() in ANNOTATION_SUFFIXES]
        return [path for path in links if not self._is_inside(path.resolve())]

    @functools.cached_property
    def _listed(self) -> tuple[list[Path], list[Path]]:
        return _files_below(self.root)

    def refuse_links_out(self, problems: ProblemLog) -> None:
        """Note each of `links_out` as a problem; where the path names one file, there is nothing else to read."""
        for path in self.links_out if self.annotation_file is None else ():
            advice = "it is a link out of the data set's folder and is not read; copy the file, or delete the link"
            problems.add("file-outside", self.relative(path), advice)

    def relative(self, path: Path) -> str:
        """The path as messages show it: below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Files with one of the suffixes (lower case, with dot)."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def annotation_files(self, suffix: str) -> list[Path]:
        """The one annotation file that the path names, if it has the suffix; of a folder all files with it."""
        if self.annotation_file is None:
            return self.with_suffix(suffix)
        return [self.annotation_file] if self.annotation_file.suffix.lower() == suffix else []

    @functools.cached_property
    def images(self) -> list[Path]:
        """The image files below the folder of images, or below the root."""
        files = self.files if self.images_root is None else _files_below(self.images_root)[0]
        return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]

    def other_images(self, named: Container[str]) -> list[Path]:
        """Images that are not among the absolute paths."""
        return [path for path in self.images if str(path) not in named]

    @functools.cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        table = defaultdict(list)
        for path in self.images:
            table[path.name].append(path)
            table[path.stem].append(path)
        return table

    def find_image(self, name: str, beside: Path | None = None) -> Path | None:
        """The image file that an annotation file means, or None.

        Looked up relative to the folder of images, the folder `beside` (usually the annotation file's), the root; last
        by the bare file name, with or without its suffix, where only one image has it.

        Raises:
            OutsideError: a name that leads out of the data set.
        """
        name = str(name).replace("\\", "/")
        if not name or "\0" in name:
            return None
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
            raise OutsideError(f"{name!r} is an absolute path; write it relative to the folder of images")
        escapes = False
        for folder in (self.images_root, beside, self.root):
            if folder is None:
                continue
            candidate = Path(os.path.normpath(folder / name))
            if not self._is_inside(candidate):
                escapes = True
            elif os.path.isfile(candidate):  # False also for a name that no file can have
                return self.inside(candidate)
        same_name = self._by_name.get(PurePosixPath(name).name, [])
        if len(same_name) == 1 and (not escapes or ".." not in PurePosixPath(name).parts):
            return self.inside(same_name[0])
        if escapes:
            raise OutsideError(f"{name!r} leads out of the data set's folder; write it relative to the images' folder")
        return None

    def inside(self, path: Path) -> Path:
        """`path`, if it lies below the root or the folder of images after all symbolic links are followed.

        Raises:
            OutsideError: it does not.
        """
        if not self._is_inside(path.resolve()):
            raise OutsideError(f"{self.relative(path)!r} is a link out of the data set's folder; copy the file")
        return path

    def plain_files(self, folder: Path) -> frozenset[str]:
        """Names of the files in a folder, links left out; none where the folder is not there or not in the data set."""
        if not folder.is_dir() or not self._is_inside(folder.resolve()):
            return frozenset()
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))

    def _is_inside(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in (self.root, self.images_root) if root is not None)


def _files_below(root: Path) -> tuple[list[Path], list[Path]]:
    """The files, and those of them that are links; no links to nothing, no devices. Linked folders are not entered."""
    files: list[Path] = []
    links: list[Path] = []
    pending = [str(root)]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda one: one.name)
        except OSError:  # a folder that may not be listed, as in os.walk
            continue
        for entry in entries:
            if entry.is_symlink() and os.path.isfile(entry.path):
                links.append(Path(entry.path))
                files.append(links[-1])
            elif entry.is_file(follow_symlinks=False):
                files.append(Path(entry.path))
        pending += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
    return files, links
