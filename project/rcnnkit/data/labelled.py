"""What every reader of a data format returns, and what it says about input that it cannot use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rcnnkit.errors import UserError

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a data set: where it is, what was found, and what a person does about it."""

    kind: str  # stable and hyphenated, such as "box-outside": what a report groups by
    file: str  # relative to the data set's root
    id: str | int | None  # of the image or object within the file; a line number is written "line 3"
    field: str | None
    value: str | None
    advice: str
    severity: str = ERROR
    image: str | None = None  # the image that it is seen in, relative to the root, where known

    def __str__(self) -> str:
        place = self.file if self.id is None else f"{self.file}: {self.id}"
        found = "" if self.field is None else f": {self.field} is {self.value}"
        return f"{place}{found}: {self.advice}"


@dataclass(slots=True)
class ProblemLog:
    """Problems in the order in which they were met."""

    problems: list[Problem] = field(default_factory=list)

    def add(
        self,
        kind: str,
        file: str | Path,
        advice: str,
        *,
        id: str | int | None = None,
        field: str | None = None,
        value: object = None,
        severity: str = ERROR,
    ) -> None:
        """Note a problem; a long value is cut."""
        shown = None if field is None else repr(value)
        if shown is not None and len(shown) > 80:
            shown = f"{shown[:76]} ..."
        self.problems.append(Problem(kind, str(file), id, field, shown, advice, severity))

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)

    def __len__(self) -> int:
        return len(self.problems)

    def errors(self) -> list[Problem]:
        """Those that keep the data from being used as they are."""
        return [problem for problem in self.problems if problem.severity == ERROR]

    def raise_errors(self, name: str, path: str | None = None) -> None:
        """Refuse the data set `name` if there is any error; `path` is what the check is called with, else the name.

        Raises:
            UserError: the first one, and how many more there are.
        """
        errors = self.errors()
        if errors:
            more = f" (and {len(errors) - 1} more: rcnnkit data check {path or name})" if len(errors) > 1 else ""
            raise UserError(f"{name}: {errors[0]}{more}")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The keypoints of one class."""

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()  # pairs of indices into `names`
    flip_pairs: tuple[tuple[int, int], ...] | None = None  # None: to be inferred from left and right in the names


@dataclass(slots=True)
class LabelledData:
    """A data set as it was labelled.

    `records` are Detectron2's standard dictionaries, one per image, in a stable order:

    - `file_name` (str, absolute path), `height`, `width` (int, pixels of the picture as it is seen, EXIF orientation
      applied), `image_id` (int or str, unique).
    - `annotations`, a list (empty for an image without objects) of dictionaries with
      `category_id` (int, index into `classes`),
      `bbox` (four floats) and `bbox_mode` (`BoxMode.XYXY_ABS` or `XYWH_ABS`) in continuous pixel coordinates,
      `iscrowd` (0 or 1), and, only where labelled:
      `segmentation` (list of polygons [x0, y0, x1, y1, ...], or RLE {"size": [height, width], "counts": str}),
      `keypoints` (flat list x, y, v; v = 0 not labelled, 1 hidden, 2 visible; the centre of the first pixel is at 0.5),
      `ignore` (1: neither an object nor background), `id` (int or str: what names the object in its file),
      `area` (square pixels, what the evaluation sorts objects by size with).

    A reader keeps numbers as it found them, also impossible ones: finding those is the check's work. What has no place
    in a record (text for a number, a class that is not listed, an image that is not there) it leaves out and adds to
    the `ProblemLog`.
    """

    format: str  # the reader's name
    classes: list[str]
    records: list[dict]
    files: list[Path]  # the annotation files that were read
    skeletons: dict[int, Skeleton] = field(default_factory=dict)  # by class index; empty without keypoints
    category_ids: list[int] | None = None  # ids of the classes in the file, where the format has such
    is_coco_file: bool = False  # the one file in `files` is COCO JSON and holds exactly this: it serves the evaluation

    def num_annotations(self) -> int:
        """Objects in all images."""
        return sum(len(record["annotations"]) for record in self.records)


def number_classes(records: Iterable[dict], classes: Sequence) -> None:
    """In all annotations, put in the place of what the file calls the class its position in `classes`."""
    index = {name: position for position, name in enumerate(classes)}
    for record in records:
        for annotation in record["annotations"]:
            annotation["category_id"] = index[annotation["category_id"]]


def class_index(classes: Sequence[str]) -> dict[str, int]:
    """`{name: index}`."""
    return {name: index for index, name in enumerate(classes)}
