"""Ultralytics' folder of images and labels (https://docs.ultralytics.com/datasets), for boxes, polygons or keypoints.

    data.yaml                     classes, folders, keypoints
    images/train/0001.jpg …       copied, or hard links
    labels/train/0001.txt …       one line an object; an empty file where there is none

What the format cannot hold is told: crowds, objects to ignore and those with impossible numbers are left out; ids,
areas and connections of keypoints have no place; a mask of several parts becomes one polygon that fills to the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from rcnnkit.data import splits
from rcnnkit.data.keypoints import keypoint_metadata, unite_keypoints
from rcnnkit.data.label_counts import has_keypoints, has_mask
from rcnnkit.data.labelled import ERROR, WARNING, LabelledData, ProblemLog, Skeleton
from rcnnkit.data.writers.coco import unwritable
from rcnnkit.data.writers.pictures import picture_names, place_pictures
from rcnnkit.data.writers.yolo_lines import box_line, polygon_line, pose_line
from rcnnkit.errors import UserError
from rcnnkit.files import whole_folder

TASKS = ("detect", "segment", "pose")


@dataclass(frozen=True, slots=True)
class WrittenYolo:
    """What was written."""

    task: str
    images: dict[str, int]  # by split
    objects: int


def write_yolo(
    parts: Mapping[str | None, LabelledData],
    out: Path,
    problems: ProblemLog,
    *,
    task: str = "auto",
    images: str = "copy",
) -> WrittenYolo:
    """Write a folder, whole or not at all.

    Args:
        parts: by split; None for what is not divided, which becomes `train`. Classes are united by name.
        out: a folder that is not there yet, or is empty.
        problems: takes what the format cannot hold.
        task: what the lines are: boxes (`detect`), polygons (`segment`), boxes with keypoints (`pose`); `auto`: pose
            where any object has keypoints, else segment where any has a mask, else detect.
        images: `copy` or `link`.

    Raises:
        UserError: `out` is there already; pose is asked for and no class has keypoints; an image cannot be read.
    """
    classes = list(dict.fromkeys(name for data in parts.values() for name in data.classes))
    metadata = _keypoints(parts, classes)
    task = _task(parts) if task == "auto" else task
    if task == "pose" and not metadata:
        raise UserError("task pose: no class of the data set has keypoints; write detect or segment")
    folders = _folders(parts)
    description: dict = {folder: f"images/{folder}" for folder in folders}
    description["names"] = dict(enumerate(classes))
    if task == "pose":
        description |= _pose_fields(metadata, len(classes))
    counts, objects = {}, 0
    with whole_folder(Path(out)) as draft:
        for folder, data in zip(folders, parts.values(), strict=True):
            names = picture_names(record["file_name"] for record in data.records)
            place_pictures({file: draft / "images" / folder / name for file, name in names.items()}, images)
            (draft / "labels" / folder).mkdir(parents=True)
            for record in _united(data, classes, metadata):
                lines = _lines(record, task, len(metadata.get("keypoint_names", ())), problems)
                target = draft / "labels" / folder / f"{Path(names[record['file_name']]).stem}.txt"
                target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                objects += len(lines)
            counts[folder] = len(data.records)
        text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=120)
        (draft / "data.yaml").write_text(text, encoding="utf-8")
    return WrittenYolo(task, counts, objects)


def _task(parts: Mapping[str | None, LabelledData]) -> str:
    annotations = [a for data in parts.values() for record in data.records for a in record["annotations"]]
    if any(map(has_keypoints, annotations)):
        return "pose"
    return "segment" if any(map(has_mask, annotations)) else "detect"


def _folders(parts: Mapping[str | None, LabelledData]) -> list[str]:
    """Ultralytics' name of each part, train, val or test, where only one part is that; else the part's own name."""
    roles = [splits.role(split) if split else "train" for split in parts]
    folders = []
    for split, role in zip(parts, roles, strict=True):
        known = role in ("train", "val", "test") and roles.count(role) == 1
        folders.append(str(role) if known else splits.without_task(str(split)).replace("/", "_"))
    if len(set(folders)) < len(folders):
        return [str(split).replace("/", "_") for split in parts]
    return folders


def _keypoints(parts: Mapping[str | None, LabelledData], classes: list[str]) -> dict:
    skeletons: dict[int, Skeleton] = {}
    for data in parts.values():
        for index, skeleton in data.skeletons.items():
            skeletons.setdefault(classes.index(data.classes[index]), skeleton)
    return keypoint_metadata(skeletons, classes)


def _pose_fields(metadata: dict, num_classes: int) -> dict:
    names = list(metadata["keypoint_names"])
    mirrored = {name: name for name in names}
    for a, b in metadata["keypoint_flip_map"]:
        mirrored[a], mirrored[b] = b, a
    return {
        "kpt_shape": [len(names), 3],
        "flip_idx": [names.index(mirrored[name]) for name in names],
        "kpt_names": {index: list(names) for index in range(num_classes)},
    }


def _united(data: LabelledData, classes: list[str], metadata: dict) -> list[dict]:
    """Copies of the records with classes and keypoints numbered as in all parts together."""
    places = [classes.index(name) for name in data.classes]
    records = [
        {**record, "annotations": [{**a, "category_id": places[a["category_id"]]} for a in record["annotations"]]}
        for record in data.records
    ]
    unite_keypoints(records, classes, metadata)
    return records


def _lines(record: dict, task: str, num_points: int, problems: ProblemLog) -> list[str]:
    width, height = record["width"], record["height"]
    lines = []
    for annotation in record["annotations"]:
        note = functools.partial(_note, problems, record["file_name"], annotation.get("id"))
        if _left_out(annotation, note):
            continue
        line: str | None = None
        if task == "pose":
            _tell_mask(annotation, note)
            line = pose_line(annotation, num_points, width, height, note)
        elif task == "segment":
            _tell_keypoints(annotation, note)
            line = polygon_line(annotation, width, height, note)
            if line is None:
                advice = "written as a box; Ultralytics trains no polygons of an image that has boxes as well"
                note("box-among-polygons", "segmentation", annotation.get("segmentation"), advice)
        else:
            _tell_mask(annotation, note)
            _tell_keypoints(annotation, note)
        line = line or (box_line(annotation, width, height, note) if task != "pose" else None)
        if line is not None:
            lines.append(line)
    return lines


def _left_out(annotation: dict, note) -> bool:
    """Whether an object has no place in the format, which is noted."""
    found = unwritable(annotation)
    if found is not None:
        note(*found, severity=ERROR)
    elif annotation.get("iscrowd"):
        note("crowd-left-out", "iscrowd", 1, "left out: as a single object it would be wrong")
    elif annotation.get("ignore"):
        note("ignored-left-out", "ignore", 1, "left out: YOLO has no objects that are to be ignored")
    else:
        return False
    return True


def _tell_mask(annotation: dict, note) -> None:
    if has_mask(annotation):
        note("mask-left-out", "segmentation", "a mask", "a line has no place for it; --task segment writes the masks")


def _tell_keypoints(annotation: dict, note) -> None:
    if has_keypoints(annotation):
        note("keypoints-left-out", "keypoints", "keypoints", "a line has no place for them; --task pose writes them")


def _note(
    problems: ProblemLog,
    file: str,
    name: object,
    kind: str,
    field: str,
    value: object,
    advice: str,
    severity: str = WARNING,
) -> None:
    identity = name if isinstance(name, int | str) else None
    problems.add(kind, file, advice, id=identity, field=field, value=value, severity=severity)
