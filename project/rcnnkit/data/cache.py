"""What readers of slow formats found, kept for the next run: XML files, text files and mask images by the thousand.

An entry is one JSON file below `$XDG_CACHE_HOME/rcnnkit` (`~/.cache/rcnnkit`), named by the BLAKE2b hash of everything
that the reading depends on: the reader, its version and settings, the part that was asked for, paths and contents of
the files that may hold annotations, and path, size and time of change of all others, images above all. It is written
whole or not at all; one that cannot be read counts as absent. `RCNNKIT_CACHE=off` switches the cache off; deleting the
folder is always safe.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import orjson

from detectron2.structures import BoxMode
from rcnnkit.data.formats.reader import Reader
from rcnnkit.data.labelled import LabelledData, Problem, ProblemLog, Skeleton
from rcnnkit.data.tree import Tree
from rcnnkit.files import write_bytes

VERSION = 1  # of the entries' form; a reader that finds other things than before raises its own `version`
FAST_FORMATS = frozenset({"coco"})  # the entry would be no faster to read
TEXT_SUFFIXES = frozenset({".csv", ".data", ".json", ".names", ".txt", ".xml", ".yaml", ".yml"})
SMALL_FOLDER = 500  # files; fewer are read faster than their cache is worth
logger = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Where entries lie; None where the cache is switched off."""
    if os.environ.get("RCNNKIT_CACHE", "").lower() in ("off", "0", "no", "false"):
        return None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rcnnkit"


def read_cached(reader: Reader, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
    """As `reader.read(tree, split, problems)`, from the cache where the files are those of an earlier reading.

    Raises:
        UserError: as the reader does; refusals are not kept.
    """
    folder = cache_folder()
    if folder is None or reader.name in FAST_FORMATS or len(tree.files) < SMALL_FOLDER:
        return reader.read(tree, split, problems)
    entry = folder / f"{fingerprint(reader, tree, split)}.json"
    found = _load(entry)
    if found is not None:
        data, known = found
        problems.problems += known
        logger.info("%s: as read before (%s; RCNNKIT_CACHE=off reads anew)", tree.root, entry)
        return data
    own = ProblemLog()
    data = reader.read(tree, split, own)
    problems.problems += own.problems
    _store(entry, data, own)
    return data


def fingerprint(reader: Reader, tree: Tree, split: str | None) -> str:
    """The name of a reading's entry: equal for equal files at the same place."""
    state = hashlib.blake2b(digest_size=20)

    def add(*parts: object) -> None:
        for part in parts:
            text = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
            state.update(len(text).to_bytes(8, "big"))  # so that ("ab", "c") and ("a", "bc") differ
            state.update(text)

    add(VERSION, reader.name, getattr(reader, "version", 0), tree.root, tree.images_root, tree.annotation_file)
    add(repr(split), repr(sorted(vars(reader).items())))
    for path in dict.fromkeys([*tree.files, *tree.images]):
        status = path.stat()
        if path.suffix.lower() in TEXT_SUFFIXES:
            add(path, _content_hash(path))
        else:
            add(path, status.st_size, status.st_mtime_ns)
    return state.hexdigest()


def _content_hash(path: Path) -> bytes:
    state = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.digest()


def _store(entry: Path, data: LabelledData, problems: ProblemLog) -> None:
    content = {
        "data": {field.name: getattr(data, field.name) for field in dataclasses.fields(data)},
        "problems": list(problems),
    }
    try:
        text = orjson.dumps(content, default=_plain, option=orjson.OPT_NON_STR_KEYS)
        if _parsed(text) != (data, list(problems)):  # NaN, which JSON has not, and the like
            logger.info("%s: holds values that the cache cannot keep; each run reads it anew", data.files[:1])
            return
        write_bytes(entry, text)
    except (OSError, TypeError, ValueError) as error:
        logger.warning("%s: the cache cannot be written (%s); the next run reads the files again", entry, error)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in the cache")


def _load(entry: Path) -> tuple[LabelledData, list[Problem]] | None:
    """The entry, or None where it is absent or damaged."""
    try:
        return _parsed(entry.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s: the cache cannot be read (%s); reading the files again", entry, error)
        return None


def _parsed(text: bytes) -> tuple[LabelledData, list[Problem]]:
    content = orjson.loads(text)
    fields: dict[str, Any] = content["data"]
    for record in fields["records"]:
        for annotation in record["annotations"]:
            annotation["bbox_mode"] = BoxMode(annotation["bbox_mode"])
    fields["skeletons"] = {int(index): _skeleton(skeleton) for index, skeleton in fields["skeletons"].items()}
    fields["files"] = [Path(file) for file in fields["files"]]
    return LabelledData(**fields), [Problem(**problem) for problem in content["problems"]]


def _skeleton(fields: dict) -> Skeleton:
    pairs = fields["flip_pairs"]
    return Skeleton(
        tuple(fields["names"]),
        tuple((a, b) for a, b in fields["edges"]),
        None if pairs is None else tuple((a, b) for a, b in pairs),
    )
