"""Data sets of one's own in Detectron2's catalogs: paths, and entries of `DATASETS.CUSTOM`.

A name is registered with the classes of its own; `rcnnkit.data.class_union` gives several names the same ones.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from rcnnkit.data.class_edit import define_keypoints, edit_classes
from rcnnkit.data.coco_check import check_coco
from rcnnkit.data.coco_segmentation import segmentation_problem
from rcnnkit.data.entries import DEFAULT_READING, DataSource, Reading, parse_entry
from rcnnkit.data.formats.deeplabcut import DeepLabCutReader
from rcnnkit.data.keypoints import flip_map, keypoint_metadata, unite_keypoints, unpaired
from rcnnkit.data.labelled import LabelledData, ProblemLog, Skeleton, class_index
from rcnnkit.data.naming import is_path, read_part, resolve
from rcnnkit.data.writers.coco import category_ids, whole_ids
from rcnnkit.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Registered:
    """A data set that was read: with its own classes in `data`, and as it is served to the engine in `served`."""

    source: DataSource
    data: LabelledData
    stamp: tuple  # of the annotation files when they were read
    notes: list[tuple[int, str]]  # level and text of what the log says whenever the name is used
    served: list[dict] = field(default_factory=list)


_registered: dict[str, Registered] = {}


def registered(name: str) -> Registered | None:
    """What was read under the name, or None if the name is not that of a data set of one's own."""
    if name in _registered and name not in DatasetCatalog.list():
        del _registered[name]  # somebody took it out of the catalog
    return _registered.get(name)


def register_custom_datasets(entries: Sequence[dict], reading: Reading = DEFAULT_READING) -> None:
    """Read and register each entry of `DATASETS.CUSTOM`.

    Args:
        entries: dictionaries of `entries.FIELDS`; see datasets/README.md.
        reading: how all data sets of the run are read.

    Raises:
        UserError: an entry that cannot be used, data that cannot be trained on, or a name that is taken by other data.
    """
    for position, entry in enumerate(entries):
        where = f"DATASETS.CUSTOM[{position}]"
        name, source = parse_entry(where, entry, reading)
        known = registered(name)
        if name in DatasetCatalog.list() and (known is None or known.source != source):
            taken = known.source if known else _catalogued(name)
            raise UserError(f"{where}: the name {name!r} is taken by {taken}, this entry is {source}; rename it")
        _register(name, source)


def register_paths(names: Sequence[str], reading: Reading = DEFAULT_READING) -> None:
    """Read and register those of the names that are in no catalog and are paths, with or without `@split`.

    Raises:
        UserError: a path whose data cannot be trained on.
    """
    for name in names:
        known = registered(name)
        if known is None and name in DatasetCatalog.list():
            continue
        if known is not None and known.source.path != name:
            continue  # an entry's name
        if is_path(name):
            _register(name, DataSource(name, reading=reading))


def _register(name: str, source: DataSource) -> None:
    known = registered(name)
    if known is None or known.source != source or known.stamp != _stamp(known.data.files):
        notes: list[tuple[int, str]] = []
        data = load(name, source, notes)
        known = _registered[name] = Registered(source, data, _stamp(data.files), notes)
        forget(name, keep=True)
        DatasetCatalog.register(name, functools.partial(_records, name))
    for level, note in known.notes:
        logger.log(level, "%s: %s", name, note)
    serve(name, known.data.classes, keypoint_metadata(known.data.skeletons, known.data.classes))


def forget(name: str, keep: bool = False) -> None:
    """Take a name out of the catalogs; with `keep` what was read stays."""
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)
    if not keep:
        _registered.pop(name, None)


def _records(name: str) -> list[dict]:
    return list(_registered[name].served)


def _stamp(files: Sequence[Path]) -> tuple:
    found = []
    for path in files:
        status = os.stat(path)
        found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)


def _catalogued(name: str) -> dict:
    metadata = MetadataCatalog.get(name)
    return {key: metadata.get(key) for key in ("json_file", "image_root") if metadata.get(key)} or {"name": name}


def load(name: str, source: DataSource, notes: list[tuple[int, str]]) -> LabelledData:
    """Read a data set to train on or evaluate with; `notes` take what was seen.

    Raises:
        UserError: anything that keeps the data from being used as they are.
    """
    reading = source.reading
    part = resolve(source.path, data_format=source.format, images=source.images, keypoints=reading.prefer_keypoints)
    notes.append((logging.INFO, part.describe()))
    if isinstance(part.reader, DeepLabCutReader):
        part.reader.box_margin = reading.box_margin
    problems = ProblemLog()
    data = read_part(part, problems, reading.holdout)
    if problems.errors() or not data.records:
        _refuse_coco(name, data)
        problems.raise_errors(name, source.path)
        raise UserError(f"{name}: has no images; correct the path, or see rcnnkit data check {source.path}")
    twice = [one for one in data.classes if data.classes.count(one) > 1]
    if twice:
        raise UserError(f"{name}: two classes have the name {twice[0]!r}; rename or merge one in {data.files[0]}")
    _check_numbers(name, data, notes)
    _number_again(data)
    edit_classes(name, data, source, notes)
    define_keypoints(name, data, source)
    counts = f"{len(data.records)} images, {data.num_annotations()} objects, {len(data.classes)} classes"
    _tell_unpaired(data, notes)
    kinds = Counter(problem.kind for problem in problems)
    remarks = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    more = f"; remarks: {remarks}; see rcnnkit data check {source.path}" if remarks else ""
    notes.append((logging.INFO, f"{counts} ({', '.join(data.classes[:12])}){more}"))
    return data


def _tell_unpaired(data: LabelledData, notes: list[tuple[int, str]]) -> None:
    """Say which keypoints seem to be of one side, with no partner that a mirrored image could swap them with."""
    for index, skeleton in sorted(data.skeletons.items()):
        paired = {name for pair in flip_map(skeleton.names, skeleton.flip_pairs) for name in pair}
        alone = [name for name in unpaired(skeleton.names) if name not in paired]
        if alone:
            text = (
                f"class {data.classes[index]!r}: the other side of {', '.join(alone)} is not among the keypoints; in "
                "mirrored images they are on the wrong side: name both sides, set flip_pairs, or INPUT.RANDOM_FLIP none"
            )
            notes.append((logging.WARNING, text))


def number_images(records: list[dict]) -> bool:
    """Give images the ids that they have in a file for the evaluators: whole numbers. Whether any changed."""
    ids = [record.get("image_id") for record in records]
    numbers = whole_ids(ids, 0)
    for record, number in zip(records, numbers, strict=True):
        record["image_id"] = number
    return numbers != ids


def _number_again(data: LabelledData) -> None:
    """Ids of images and classes as the evaluators want them; a file with other ones does not serve the evaluation."""
    if number_images(data.records):
        data.is_coco_file = False
    if data.category_ids is not None and category_ids(data) != data.category_ids:
        data.category_ids = category_ids(data)
        data.is_coco_file = False


def _refuse_coco(name: str, data: LabelledData) -> None:
    """Refuse the first thing in a COCO file that cannot be used, in more detail than readers of all formats have."""
    if data.format == "coco":
        for file in data.files:
            check_coco(name, file)


def _check_numbers(name: str, data: LabelledData, notes: list[tuple[int, str]]) -> None:
    """Refuse boxes and masks whose numbers cannot be used; readers keep what they find."""
    flat = 0
    first = None
    for record in data.records:
        size = [record["height"], record["width"]]
        for annotation in record["annotations"]:
            a, b, c, d = annotation["bbox"]
            width, height = (c, d) if annotation["bbox_mode"] == BoxMode.XYWH_ABS else (c - a, d - b)
            # NaN makes every comparison false; two infinities of one sign make a NaN, others one end of the range
            if not (width >= 0 and height >= 0 and a - a == 0 and b - b == 0 and c - c == 0 and d - d == 0):
                _refuse_coco(name, data)
                advice = "it must be four finite numbers with width and height of at least 0"
                raise UserError(_place(name, record, annotation) + f" has bbox {annotation['bbox']}; {advice}")
            if not (width and height):
                flat += 1
                first = first or _place(name, record, annotation)
            if "segmentation" in annotation:
                problem = _mask_problem(annotation["segmentation"], size)
                if problem:
                    _refuse_coco(name, data)
                    raise UserError(_place(name, record, annotation) + f" has a mask that cannot be used: {problem}")
            if "keypoints" in annotation:
                problem = _keypoints_problem(annotation["keypoints"], data.skeletons.get(annotation["category_id"]))
                if problem:
                    raise UserError(_place(name, record, annotation) + f" has keypoints that cannot be used: {problem}")
    if flat:
        text = f"{flat} boxes have no width or no height; nothing is learnt from them. The first: {first}"
        notes.append((logging.WARNING, text))


def _mask_problem(segmentation: list | dict, size: list[int]) -> str | None:
    if isinstance(segmentation, dict):
        found = list(segmentation["size"])
        return None if found == size else f"its size is {found}, the image has {size} (height, width)"
    for polygon in segmentation:
        total = sum(polygon)
        if len(polygon) % 2 or total - total != 0:
            problem = segmentation_problem(segmentation)
            if problem:
                return problem
    return None


def _keypoints_problem(points: list[float], skeleton: Skeleton | None) -> str | None:
    count, total = len(points), sum(points)
    if skeleton is not None and count != 3 * len(skeleton.names):
        return f"{count} numbers, but the class has {len(skeleton.names)} points; write x, y, visibility for each"
    return None if total - total == 0 else f"{points[:12]} are not all finite; correct them"


def _place(name: str, record: dict, annotation: dict) -> str:
    return f"{name}: image {record['image_id']}, {record['file_name']}: annotation {annotation.get('id', '?')}"


def serve(name: str, classes: list[str], keypoints: dict, is_learnt: bool = False) -> None:
    """Serve a data set of one's own with these classes, which include its own, and this keypoint metadata.

    A data set without keypoints has the metadata only where it `is_learnt`, beside others with keypoints.
    """
    entry = _registered[name]
    data = entry.data
    places = class_index(classes)
    targets = [places[one] for one in data.classes]
    own = keypoint_metadata(data.skeletons, data.classes)
    unchanged = targets == list(range(len(targets))) and own == keypoints and _one_order(own)
    if unchanged:
        entry.served = data.records
    else:
        entry.served = [
            {**record, "annotations": [{**a, "category_id": targets[a["category_id"]]} for a in record["annotations"]]}
            for record in data.records
        ]
        unite_keypoints(entry.served, classes, keypoints)
    same = classes == data.classes
    ids = data.category_ids if same and data.category_ids else list(range(1, len(classes) + 1))
    described = {
        "thing_classes": list(classes),
        "thing_dataset_id_to_contiguous_id": {id_: position for position, id_ in enumerate(ids)},
        "evaluator_type": "coco",
        "data_format": data.format,
        "image_root": entry.source.images or os.path.dirname(data.records[0]["file_name"]),
        **(keypoints if data.skeletons or is_learnt else {}),
    }
    if same and unchanged and data.is_coco_file and not _lacks(data):
        described["json_file"] = str(data.files[0])
    if name in MetadataCatalog.list():
        MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(**described)


def _lacks(data: LabelledData) -> bool:
    """Whether COCO's evaluation would look for keypoints of an object, or the mask of a crowd region, in vain."""
    return any(
        (data.skeletons and "keypoints" not in a) or (a["iscrowd"] and "segmentation" not in a)
        for record in data.records
        for a in record["annotations"]
    )


def _one_order(metadata: dict) -> bool:
    """Whether the points of every class are all points in their order."""
    count = len(metadata.get("keypoint_names", ()))
    return all(places == tuple(range(count)) for places in metadata.get("keypoint_classes", {}).values())
