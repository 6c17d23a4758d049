"""What a config says about a data set of one's own: the fields of an entry of `DATASETS.CUSTOM`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from rcnnkit.data.formats import READERS
from rcnnkit.data.labelled import Skeleton
from rcnnkit.data.naming import DEFAULT_HOLDOUT, Holdout, split_name
from rcnnkit.errors import UserError, nearest

FIELDS = ("name", "path", "format", "images", "classes", "merge", "ignore", "keypoints", "json")
KEYPOINT_FIELDS = ("names", "skeleton", "flip_pairs")


@dataclass(frozen=True, slots=True)
class Reading:
    """How all data sets of a run are read."""

    holdout: Holdout = DEFAULT_HOLDOUT
    prefer_keypoints: bool = False  # of several labellings of the same images
    box_margin: float = 0.1  # around keypoints without a box, as a fraction of the longer side

    def __str__(self) -> str:
        keypoints = ", keypoints preferred" if self.prefer_keypoints else ""
        drawn = f"held out {self.holdout.fraction:g} by seed {self.holdout.seed}"
        return f"{drawn}, margin of boxes {self.box_margin:g}{keypoints}"


DEFAULT_READING = Reading()


@dataclass(frozen=True, slots=True)
class DataSource:
    """Everything that decides what a data set's name stands for; equal sources are the same data."""

    path: str  # with or without @split
    format: str = "auto"
    images: str | None = None
    classes: tuple[str, ...] = ()  # to keep, in this order; empty: all
    merge: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (new name, the classes that it stands for)
    ignore: tuple[str, ...] = ()  # classes whose objects are neither objects nor background
    skeleton: Skeleton | None = None  # instead of what the data say
    reading: Reading = DEFAULT_READING

    def __str__(self) -> str:
        defaults = DataSource("")
        shown = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        told = {key: str(value) if key == "reading" else value for key, value in shown.items()}
        return str({key: value for key, value in told.items() if shown[key] != getattr(defaults, key)})


def parse_entry(where: str, entry: dict, reading: Reading = DEFAULT_READING) -> tuple[str, DataSource]:
    """The name and the source of an entry.

    Args:
        where: the entry's place in the config, for messages.

    Raises:
        UserError: an unknown or missing field, a value of another kind, or a path that is not there.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {entry!r}; an entry has the fields {', '.join(FIELDS)}")
    _known_fields(where, entry, FIELDS)
    given = [key for key in ("path", "json") if entry.get(key)]
    if not entry.get("name") or not given:
        absent = "path" if entry.get("name") else "name"
        raise UserError(f"{where} has no {absent!r}; an entry has the fields {', '.join(FIELDS)}")
    if len(given) == 2:
        raise UserError(f"{where} has both 'path' and 'json'; leave 'json' out, it is the older name for a COCO file")
    path, images, data_format = _place(where, entry)
    return str(entry["name"]), DataSource(
        path=path,
        format=data_format,
        images=images,
        classes=_names(where, "classes", entry.get("classes")),
        merge=_merges(where, entry.get("merge")),
        ignore=_names(where, "ignore", entry.get("ignore")),
        skeleton=_skeleton(where, entry.get("keypoints")),
        reading=reading,
    )


def _place(where: str, entry: dict) -> tuple[str, str | None, str]:
    images = str(entry["images"]) if entry.get("images") else None
    data_format = str(entry.get("format") or "auto")
    if data_format not in ("auto", *READERS):
        known = nearest(data_format, ["auto", *READERS], 4)
        raise UserError(f"{where}: format {data_format!r} is unknown; nearest: {', '.join(known)}")
    if entry.get("json"):
        path, data_format = str(entry["json"]), "coco"
        if not Path(path).is_file():
            raise UserError(f"{where}: the annotation file {path} is missing")
    else:
        path = str(entry["path"])
        if not Path(split_name(path)[0]).exists():
            raise UserError(f"{where}: the path {path} is missing")
    if images is not None and not Path(images).is_dir():
        raise UserError(f"{where}: the folder of images {images} is missing")
    return path, images, data_format


def _known_fields(where: str, entry: dict, known: tuple[str, ...]) -> None:
    for key in entry:
        if key not in known:
            near = ", ".join(nearest(str(key), known, 3))
            raise UserError(f"{where} has the unknown field {key!r}; nearest: {near}")


def _names(where: str, key: str, value) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{where}: {key} is {value!r}; it must be a list of class names")
    return tuple(value)


def _merges(where: str, value) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise UserError(f"{where}: merge is {value!r}; write new name: [old names]")
    return tuple((str(new), _names(where, f"merge of {new!r}", old)) for new, old in value.items())


def _skeleton(where: str, value) -> Skeleton | None:
    """The keypoint definition of an entry; limbs and flip pairs are pairs of names, or of numbers from 1."""
    if value is None:
        return None
    where = f"{where}: keypoints"
    if not isinstance(value, dict) or "names" not in value:
        raise UserError(f"{where} is {value!r}; it has the fields {', '.join(KEYPOINT_FIELDS)}, and needs names")
    _known_fields(where, value, KEYPOINT_FIELDS)
    names = _names(where, "names", value["names"])
    edges = _pairs(where, "skeleton", value.get("skeleton") or (), names)
    flips = value.get("flip_pairs")
    return Skeleton(names, edges, None if flips is None else _pairs(where, "flip_pairs", flips, names))


def _pairs(where: str, key: str, pairs, names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    found = []
    for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(f"{where}: {key} has {pair!r}; write pairs of names")
        places = []
        for end in pair:
            if end in names:
                places.append(names.index(end))
            elif type(end) is int and 1 <= end <= len(names):
                places.append(end - 1)
            else:
                near = ", ".join(nearest(str(end), names, 3))
                raise UserError(f"{where}: {key} has {end!r}, which is not among the names; nearest: {near}")
        found.append((places[0], places[1]))
    return tuple(found)
