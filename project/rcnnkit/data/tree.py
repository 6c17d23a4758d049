"""The files of a data set's folder, listed once, and the way from a name in an annotation file to an image file.

Nothing outside the root (or the folder of images that the user names) is ever opened: absolute names, names that climb
out with `..`, and symbolic links that lead out are refused.
"""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from pathlib import Path, PurePosixPath, PureWindowsPath

from rcnnkit.errors import UserError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


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

    @functools.cached_property
    def files(self) -> list[Path]:
        """All files below the root, absolute and sorted, hidden ones left out."""
        return _files_below(self.root)

    def relative(self, path: Path) -> str:
        """The path as messages show it: below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Files with one of the suffixes (lower case, with dot)."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    @functools.cached_property
    def images(self) -> list[Path]:
        """The image files below the folder of images, or below the root."""
        files = self.files if self.images_root is None else _files_below(self.images_root)
        return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]

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


def _files_below(root: Path) -> list[Path]:
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return found
