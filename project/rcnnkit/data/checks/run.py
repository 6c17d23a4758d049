"""All checks of a data set in the order in which a person mends it: files, images, objects, classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from rcnnkit.data import splits
from rcnnkit.data.checks.boxes import check_boxes
from rcnnkit.data.checks.classes import check_classes
from rcnnkit.data.checks.duplicates import check_ids, check_objects, check_same_images
from rcnnkit.data.checks.images import ImageState, check_images, check_labels_missing, check_unlisted, image_states
from rcnnkit.data.checks.keypoints import check_keypoints
from rcnnkit.data.checks.masks import check_masks, check_overlaps
from rcnnkit.data.checks.places import Places
from rcnnkit.data.checks.polygons import check_polygons
from rcnnkit.data.checks.statistics import Statistics, statistics_of
from rcnnkit.data.checks.suggestions import Suggestion, suggestions
from rcnnkit.data.formats import Reader, Recognition, choose_reader, recognise
from rcnnkit.data.labelled import LabelledData, Problem, ProblemLog
from rcnnkit.data.naming import read_part, resolve, split_name
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

# Of one part each, in the order of a report.
OF_A_PART = (
    check_labels_missing, check_ids, check_boxes, check_polygons, check_masks, check_overlaps, check_keypoints,
    check_objects,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found."""

    tree: Tree
    reader: Reader
    reason: str  # what shows the format
    parts: dict[str | None, LabelledData]  # by the reader's split; None: the folder is not divided
    states: dict[str, ImageState]  # of the image files, by name
    problems: list[Problem]
    left_out: list[Problem]  # those of them that the reader met: what they are about is in no record
    also: list[Recognition]  # other formats that the folder shows, not checked

    def statistics(self) -> dict[str | None, Statistics]:
        """Of each part."""
        return {split: statistics_of([data]) for split, data in self.parts.items()}

    def suggestions(self) -> list[Suggestion]:
        """For a config that trains on the training part: the part that says so, else the whole."""
        names = [split for split in self.parts if split is not None and splits.role(split) in ("train", "trainval")]
        training = splits.labellings(names)
        first = [splits.preferred(same) for same in training.values()][:1]
        return suggestions(statistics_of([self.parts[name] for name in first] or list(self.parts.values())))


def check(path: str, *, data_format: str = "auto", images: str | None = None, split: str | None = None) -> Checked:
    """Read a data set, and look for whatever harms training on it or evaluating with it.

    Args:
        path: a folder or an annotation file, with or without `@split`.
        data_format: a reader's name, or `auto`.
        images: the folder of the images, where it is not below the path.
        split: only this part, as `@split`; None: all.

    Raises:
        UserError: no such path or part, no known format, or nothing that can be read.
    """
    path, named = split_name(path)
    tree = Tree(path, images)
    chosen = choose_reader(tree, data_format)
    seen = recognise(tree) if data_format == "auto" else []
    also = [other for other in seen if other.reader.name != chosen.reader.name]
    log = ProblemLog()
    parts = _read(tree, chosen.reader, named if split is None else split, path, log)
    states = image_states(record["file_name"] for data in parts.values() for record in data.records)
    whole = split is None and named is None
    found = chain(log, _problems(tree, parts, states, whole=whole))
    if whole:
        found = chain(found, _unlisted(tree, parts, log), _missing_in_yolo(tree, also))
    # Parts overlap (trainval), and a reader says some things that a check finds as well.
    unique = {(problem.kind, problem.file, problem.id, problem.field, problem.value): problem for problem in found}
    return Checked(tree, chosen.reader, chosen.reason, parts, states, list(unique.values()), list(log), also)


def _read(tree: Tree, reader: Reader, split: str | None, path: str, log: ProblemLog) -> dict[str | None, LabelledData]:
    tree.refuse_links_out(log)
    names = reader.splits(tree)
    if split is not None and not splits.is_divided(names) and split not in names:
        # train or val of what is divided by a draw: as in training
        images = None if tree.images_root is None else str(tree.images_root)
        part = resolve(path, data_format=reader.name, images=images, split=split)
        return {part.held_out: read_part(part, log)}
    if split is not None:
        return {(taken := splits.choose(names, split, path)): reader.read(tree, taken, log)}
    parts: dict[str | None, LabelledData] = {}
    refusal: UserError | None = None
    wanted: list[str | None] = [*names] or [None]
    for name in wanted:
        try:
            parts[name] = reader.read(tree, name, log)
        except UserError as error:
            refusal = refusal or error
            log.add("part-unreadable", str(name), str(error))
    if not parts:
        raise refusal or UserError(f"{path}: nothing can be read")
    return parts


def _problems(
    tree: Tree, parts: dict[str | None, LabelledData], states: dict[str, ImageState], *, whole: bool
) -> Iterator[Problem]:
    places = {split: Places(tree, data) for split, data in parts.items()}
    for split, data in parts.items():
        yield from check_images(data, places[split], states)
        for check_part in OF_A_PART:
            yield from check_part(data, places[split])
    yield from check_same_images(parts, places)
    if whole:
        yield from check_classes(parts, places)
    if not any(record["annotations"] for data in parts.values() for record in data.records):
        advice = "there is not one usable object; label some, or correct what is said above"
        yield next(iter(places.values())).of_data_set("no-objects", None, None, None, advice)


def _missing_in_yolo(tree: Tree, formats: list[Recognition]) -> Iterator[Problem]:
    """Images without a label file, where YOLO's files are a second labelling of the same pictures."""
    for other in formats:
        if other.reader.name == "yolo":
            try:
                parts = _read(tree, other.reader, None, str(tree.root), ProblemLog())
            except UserError:
                continue
            for data in parts.values():
                yield from check_labels_missing(data, Places(tree, data))


def _unlisted(tree: Tree, parts: dict[str | None, LabelledData], log: ProblemLog) -> Iterator[Problem]:
    told = {problem.file for problem in log}
    for problem in check_unlisted(parts.values(), tree):
        if problem.file not in told:  # a reader says of it why it is in no record
            yield problem
