"""Ids and objects that occur twice, and images that occur twice: in one part, or in training and validation."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rcnnkit.data.checks.places import Places, box_of, object_id
from rcnnkit.data.labelled import WARNING, LabelledData, Problem
from rcnnkit.data.splits import role

# Parts that share no picture, the one that keeps it first.
_DISJOINT = (("train", "val"), ("train", "test"), ("val", "test"), ("trainval", "test"))


def check_ids(data: LabelledData, places: Places) -> Iterator[Problem]:
    """The same id for two images, or for two objects of one file; an image that is listed twice."""
    ids: dict[int | str, dict] = {}
    names: dict[str, dict] = {}
    for record in data.records:
        first = ids.setdefault(record["image_id"], record)
        if first is not record:
            advice = f"{places.image(first)} has the same id; give each image an id of its own"
            yield places.of_record("duplicate-image-id", record, "image_id", record["image_id"], advice)
        first = names.setdefault(record["file_name"], record)
        if first is not record:
            advice = f"it is also the image {first['image_id']}; list it once, with the objects of both"
            yield places.of_record("image-listed-twice", record, "file_name", places.image(record), advice)
    yield from _object_ids(data, places)


def _object_ids(data: LabelledData, places: Places) -> Iterator[Problem]:
    in_file: set[tuple[str, str | int]] = set()
    for record in data.records:
        # COCO's ids hold in the whole file, the others' in the image: that file is a list of images.
        scope = "" if data.format == "coco" else record["file_name"]
        for annotation in record["annotations"]:
            if "id" not in annotation:
                continue
            key = (scope, annotation["id"])
            if key in in_file:
                advice = "another object has the same id; give each object an id of its own"
                yield places.of_object("duplicate-annotation-id", record, annotation, "id", annotation["id"], advice)
            in_file.add(key)


def check_objects(data: LabelledData, places: Places) -> Iterator[Problem]:
    """Objects that are labelled twice: the same class, box, mask and keypoints in the same image."""
    for record in data.records:
        for annotation, first in duplicate_objects(record["annotations"]):
            advice = f"{object_id(record, first)} is the same object once more; delete one"
            yield places.of_object("duplicate-object", record, annotation, "bbox", annotation.get("bbox"), advice)


def duplicate_objects(annotations: Iterable[dict]) -> list[tuple[dict, dict]]:
    """The objects that repeat an earlier one, each with that one."""
    seen: dict[tuple, list[dict]] = defaultdict(list)
    pairs = []
    for annotation in annotations:
        box = box_of(annotation)
        if any(side != side for side in box):
            continue
        key = (annotation["category_id"], annotation.get("iscrowd", 0), *(round(side, 1) for side in box))
        first = next((other for other in seen[key] if _same_shape(annotation, other)), None)
        if first is None:
            seen[key].append(annotation)
        else:
            pairs.append((annotation, first))
    return pairs


def _same_shape(first: dict, second: dict) -> bool:
    return all(first.get(field) == second.get(field) for field in ("segmentation", "keypoints"))


def same_content(files: Iterable[Path]) -> list[list[Path]]:
    """Groups of files with the same bytes. Only files of one size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(files):
        try:
            by_size[path.stat().st_size].append(path)
        except OSError:
            continue
    groups = []
    for size, candidates in by_size.items():
        if size == 0 or len(candidates) == 1:
            continue
        by_hash: dict[bytes, list[Path]] = defaultdict(list)
        for path in candidates:
            with open(path, "rb") as file:
                by_hash[hashlib.file_digest(file, "sha256").digest()].append(path)
        groups += [group for group in by_hash.values() if len(group) > 1]
    return groups


def check_same_images(parts: Mapping[str | None, LabelledData], places: Mapping[str | None, Places]) -> Iterator:
    """The same picture under two names, and the same picture in parts that have to be disjoint, by the files' bytes.

    Args:
        parts: the data set by split.
        places: the same splits'.
    """
    where: dict[Path, list[tuple[str | None, dict]]] = defaultdict(list)
    for split, data in parts.items():
        for record in data.records:
            where[Path(record["file_name"])].append((split, record))
    groups = same_content(where)
    grouped = {path for group in groups for path in group}
    for group in [*groups, *([path] for path in where if path not in grouped)]:
        entries = [entry for path in group for entry in where[path]]
        yield from _across_splits(entries, places)
        yield from _within_split(entries, places)


def _across_splits(entries: list[tuple[str | None, dict]], places: Mapping[str | None, Places]) -> Iterator[Problem]:
    by_role: dict[str, tuple[str | None, dict]] = {}
    for split, record in entries:
        purpose = role(split) if split else None
        if purpose is not None:
            by_role.setdefault(purpose, (split, record))
    for kept, other in _DISJOINT:
        if kept not in by_role or other not in by_role:
            continue
        (kept_split, kept_record), (split, record) = by_role[kept], by_role.pop(other)
        advice = f"the same picture is {places[kept_split].image(kept_record)} of {kept_split}, so that the evaluation "
        advice += f"does not measure what is new; leave it out of {kept_split} or {split}"
        place = places[split]
        yield place.of_record("image-in-two-splits", record, "file_name", place.image(record), advice)


def _within_split(entries: list[tuple[str | None, dict]], places: Mapping[str | None, Places]) -> Iterator[Problem]:
    seen: dict[str | None, dict] = {}
    for split, record in entries:
        first = seen.setdefault(split, record)
        if first["file_name"] != record["file_name"]:
            place = places[split]
            advice = f"{place.image(first)} is the same picture; keep one of them, with the objects of both"
            value = place.image(record)
            yield place.of_record("duplicate-image", record, "file_name", value, advice, WARNING)
