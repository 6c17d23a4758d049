"""Classes of a data set kept, merged or ignored as an entry of `DATASETS.CUSTOM` says."""

from __future__ import annotations

import logging
from collections import Counter

from rcnnkit.data.entries import DataSource
from rcnnkit.data.labelled import LabelledData, class_index
from rcnnkit.errors import UserError, nearest

IGNORED = -1


def edit_classes(name: str, data: LabelledData, source: DataSource, notes: list[tuple[int, str]]) -> None:
    """Change classes and records in place: first classes are merged, then ignored, then those to keep are kept.

    Objects of an ignored class stay with `ignore` 1; those of a class that is not kept are taken out, and `notes` say
    how many.

    Raises:
        UserError: a class that the data set does not have.
    """
    if not (source.classes or source.merge or source.ignore):
        return
    renamed = {old: old for old in data.classes}
    for new, olds in source.merge:
        for old in olds:
            _known(name, "merge", old, data.classes)
            renamed[old] = new
    after = list(dict.fromkeys(renamed.values()))
    for key, wanted in (("ignore", source.ignore), ("classes", source.classes)):
        for one in wanted:
            _known(name, key, one, after)
    classes = [one for one in source.classes or after if one not in source.ignore]
    if not classes:
        raise UserError(f"{name}: no class is left of {', '.join(after)}; keep or do not ignore one")
    index = class_index(classes) | dict.fromkeys(source.ignore, IGNORED)
    targets = [index.get(renamed[old]) for old in data.classes]
    dropped: Counter[str] = Counter()
    for record in data.records:
        kept = []
        for annotation in record["annotations"]:
            target = targets[annotation["category_id"]]
            if target is None:
                dropped[renamed[data.classes[annotation["category_id"]]]] += 1
                continue
            annotation["category_id"] = max(target, 0)
            if target == IGNORED:
                annotation["ignore"] = 1
            kept.append(annotation)
        record["annotations"] = kept
    data.skeletons = {
        target: data.skeletons[own]
        for own, target in enumerate(targets)
        if own in data.skeletons and target is not None and target != IGNORED
    }
    data.classes, data.category_ids, data.is_coco_file = classes, None, False
    if dropped:
        listed = ", ".join(f"{count} {one}" for one, count in dropped.most_common())
        notes.append((logging.INFO, f"objects of classes that are not kept are background: {listed}"))


def define_keypoints(name: str, data: LabelledData, source: DataSource) -> None:
    """Put the entry's keypoint definition in the place of the data's.

    Raises:
        UserError: the data have objects with another number of keypoints.
    """
    if source.skeleton is None:
        return
    classes = set(data.skeletons)
    count = len(source.skeleton.names)
    for record in data.records:
        for annotation in record["annotations"]:
            points = annotation.get("keypoints")
            if points is None:
                continue
            if len(points) != 3 * count:
                raise UserError(
                    f"{name}: {record['file_name']}: object {annotation.get('id', '?')} has {len(points) // 3} "
                    f"keypoints, but the config names {count}; correct keypoints.names"
                )
            classes.add(annotation["category_id"])
    data.skeletons = dict.fromkeys(sorted(classes), source.skeleton)


def _known(name: str, key: str, one: str, classes: list[str]) -> None:
    if one not in classes:
        near = ", ".join(nearest(one, classes, 4))
        raise UserError(f"{name}: {key} names the class {one!r}, which the data set does not have; nearest: {near}")
