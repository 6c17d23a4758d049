"""From `path@split` to labelled data: the folder, its format, and which of its images are meant."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from rcnnkit.data import splits
from rcnnkit.data.cache import read_cached
from rcnnkit.data.formats import Reader, choose_reader, recognise
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

logger = logging.getLogger(__name__)
_HELD_OUT = {"train": "train", "val": "val", "valid": "val", "validation": "val"}


@dataclass(frozen=True, slots=True)
class Holdout:
    """How a folder without parts of its own is divided: the fraction of its images in `val`, the seed of the draw."""

    fraction: float = 0.2
    seed: int = 0


DEFAULT_HOLDOUT = Holdout()


@dataclass(frozen=True, slots=True)
class Part:
    """What a name stands for."""

    tree: Tree
    reader: Reader
    reason: str  # what shows the format
    split: str | None  # the reader's name of the part; None: all that the folder holds
    held_out: str | None = None  # "train" or "val" of a folder that is divided here
    also: tuple[str, ...] = ()  # what else the folder shows: other formats, other labellings of the same images

    def describe(self) -> str:
        """One line for the log."""
        part = f", {self.split}" if self.split else ""
        part += f", {self.held_out} (held out by a seeded draw)" if self.held_out else ""
        also = f"; also seen, not used: {'; '.join(self.also)}" if self.also else ""
        return f"{self.reader.name}{part}: {self.reason}{also}"


def split_name(text: str) -> tuple[str, str | None]:
    """`path@split` in its two halves; the second is None where there is no `@`, or where it belongs to the path."""
    path, at, split = text.rpartition("@")
    if not at or not path or Path(text).exists():
        return text, None
    return path, split


def is_path(text: str) -> bool:
    """Whether the name of a data set is that of an existing file or folder, with or without `@split`."""
    return Path(split_name(text)[0]).exists()


def resolve(
    text: str,
    *,
    data_format: str = "auto",
    images: str | None = None,
    split: str | None = None,
    keypoints: bool = False,
) -> Part:
    """Find what `path@split` stands for, without reading the annotations.

    A folder with parts of its own is divided as it says; `val`, `valid` and `validation` mean the same. In any other
    folder, and in a single annotation file, `train` and `val` are drawn.

    Args:
        text: a path, with or without `@split`.
        data_format: a reader's name, or `auto`.
        images: the folder of the images, where it is not below the path.
        split: instead of `@split`.
        keypoints: of several labellings of the same images take that of the keypoints.

    Raises:
        UserError: no such path or part, no known format, or a divided folder without a part named.
    """
    path, named = split_name(text)
    asked = named if split is None else split
    tree = Tree(path, images)
    chosen = choose_reader(tree, data_format)
    also = _other_formats(tree, chosen.reader.name) if data_format == "auto" else ()
    part = Part(tree, chosen.reader, chosen.reason, None, also=also)
    names = chosen.reader.splits(tree)
    if not splits.is_divided(names):
        return _undivided(part, path, names, asked, keypoints)
    if asked is None:
        parts = splits.labellings(names)
        if len(parts) > 1:
            example = next((name for name in parts if splits.role(name) == "train"), names[0])
            raise UserError(f"{path}: has the parts {', '.join(names)}; name one, such as {path}@{example}")
        asked = splits.preferred(names, keypoints)
    taken = splits.choose(names, asked, path, keypoints)
    return replace(part, split=taken, also=(*also, *_other_labellings(names, taken)))


def _undivided(part: Part, path: str, names: list[str], asked: str | None, keypoints: bool) -> Part:
    """The whole, or a half that is held out; `names` are labellings of the whole, if there are any."""
    if asked in names:
        return replace(part, split=asked)
    if asked is not None and asked.lower() not in _HELD_OUT:
        known = f"it has {', '.join(names)}, and" if names else "it is not divided;"
        raise UserError(f"{path}@{asked}: the data set has no part {asked!r}; {known} train and val can be drawn")
    taken = splits.preferred(names, keypoints) if names else None
    others = tuple(f"labels {name}" for name in names if name != taken)
    held_out = None if asked is None else _HELD_OUT[asked.lower()]
    return replace(part, split=taken, held_out=held_out, also=(*part.also, *others))


def _other_formats(tree: Tree, taken: str) -> tuple[str, ...]:
    return tuple(f"{other.reader.name} ({other.reason})" for other in recognise(tree) if other.reader.name != taken)


def _other_labellings(names: list[str], taken: str) -> tuple[str, ...]:
    return tuple(f"labels {name}" for name in splits.labellings(names)[splits.without_task(taken)] if name != taken)


def read_part(part: Part, problems: ProblemLog, holdout: Holdout = DEFAULT_HOLDOUT) -> LabelledData:
    """Read the annotations of what a name stands for.

    Raises:
        UserError: nothing can be read, or there are too few images to hold any out.
    """
    part.tree.refuse_links_out(problems)
    data = read_cached(part.reader, part.tree, part.split, problems)
    if part.split is None and part.tree.annotation_file is None:
        _tell_unlisted(part.tree, data, problems)
    if part.held_out is not None:
        data.records = held_out(data.records, part.held_out, holdout, part.tree.root)
        data.is_coco_file = False
    return data


def _tell_unlisted(tree: Tree, data: LabelledData, problems: ProblemLog) -> None:
    """Note the images of a folder without parts that are in no record, but for those whose problem is known."""
    told = {problem.file for problem in problems}
    advice = "no annotation names this image, and it is left out; label it, or list it without objects"
    for path in tree.other_images({record["file_name"] for record in data.records} | set(map(str, data.files))):
        file = tree.relative(path)
        if file not in told:
            problems.add("image-unlisted", file, advice, severity=WARNING)


def held_out(records: list[dict], half: str, holdout: Holdout, root: Path) -> list[dict]:
    """The training or validation half of records, in their order.

    Each image draws a number from the seed and its path below `root`: the draw depends neither on the order of the
    records nor on where the folder lies, and an added image moves at most one other.

    Raises:
        UserError: a fraction that is not between 0 and 1, or fewer than two images.
    """
    if not 0 < holdout.fraction < 1:
        raise UserError(f"RCNNKIT.HOLDOUT_FRACTION: {holdout.fraction}; the fraction held out lies between 0 and 1")
    if len(records) < 2:
        raise UserError(f"{root}: of {len(records)} images none can be held out; name another data set to validate on")

    def draw(record: dict) -> bytes:
        name = os.path.relpath(record["file_name"], root).replace(os.sep, "/")
        return hashlib.sha256(f"{holdout.seed}/{name}".encode()).digest()

    count = min(max(round(len(records) * holdout.fraction), 1), len(records) - 1)
    by_draw = sorted(range(len(records)), key=lambda index: draw(records[index]))
    chosen = set(by_draw[:count] if half == "val" else by_draw[count:])
    return [record for index, record in enumerate(records) if index in chosen]
