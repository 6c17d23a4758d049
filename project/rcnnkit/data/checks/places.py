"""Where something is in a data set, and its objects as arrays: what the checks share."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectron2.structures import BoxMode
from rcnnkit.data.labelled import ERROR, LabelledData, Problem
from rcnnkit.data.tree import Tree


class Places:
    """Makes problems that name the file, id and field of a record or an object as its annotator knows them."""

    def __init__(self, tree: Tree, data: LabelledData):
        self._tree = tree
        self._files = data.files
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_folder: dict[Path, list[Path]] = defaultdict(list)
        if len(data.files) != 1:
            for path in data.files:
                self._by_stem[path.stem].append(path)
                self._by_folder[path.parent].append(path)

    def image(self, record: dict) -> str:
        """The image file of a record, relative to the root."""
        return self._tree.relative(Path(record["file_name"]))

    def annotation_file(self, record: dict) -> str:
        """The file in which the record is written, relative to the root; the image's name where several may be it."""
        if len(self._files) == 1:
            return self._tree.relative(self._files[0])
        image = Path(record["file_name"])
        for found in (self._by_stem[image.stem], self._by_folder[image.parent]):
            if len(found) == 1:
                return self._tree.relative(found[0])
        return self.image(record)

    def data_set(self) -> str:
        """The one annotation file, or the folder."""
        return self._tree.relative(self._files[0]) if len(self._files) == 1 else "."

    def of_record(
        self, kind: str, record: dict, field: str | None, value: object, advice: str, severity: str = ERROR
    ) -> Problem:
        """A problem of what is written about an image."""
        file, image = self.annotation_file(record), self.image(record)
        id = f"image {record['image_id']}" if len(self._files) == 1 else None
        return Problem(kind, file, id, field, shown(value, field), advice, severity, image)

    def of_image(
        self, kind: str, record: dict, field: str | None, value: object, advice: str, severity: str = ERROR
    ) -> Problem:
        """A problem of an image file itself."""
        image = self.image(record)
        return Problem(kind, image, None, field, shown(value, field), advice, severity, image)

    def of_object(
        self, kind: str, record: dict, annotation: dict, field: str | None, value: object, advice: str, severity=ERROR
    ) -> Problem:
        """A problem of an object of an image."""
        file, image = self.annotation_file(record), self.image(record)
        return Problem(kind, file, object_id(record, annotation), field, shown(value, field), advice, severity, image)

    def of_data_set(
        self, kind: str, id: str | int | None, field: str | None, value: object, advice: str, severity: str = ERROR
    ) -> Problem:
        """A problem of the whole, such as a class."""
        return Problem(kind, self.data_set(), id, field, shown(value, field), advice, severity)


def object_id(record: dict, annotation: dict) -> str:
    """What names an object: the id in its file, else its position in its image."""
    if "id" in annotation:
        return annotation["id"] if isinstance(annotation["id"], str) else f"annotation {annotation['id']}"
    position = next((i for i, other in enumerate(record["annotations"]) if other is annotation), 0)
    return f"object {position + 1}"


def shown(value: object, field: str | None = "") -> str | None:
    """A value as a message shows it: rounded, and cut where it is long."""
    if field is None:
        return None
    text = repr(_plain(value))
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _plain(value):
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return int(value) if value.is_integer() else round(value, 2)
    return value


@dataclass(frozen=True, slots=True)
class Objects:
    """All objects of a data set. N: their number."""

    records: list[dict]  # N, the record of each
    annotations: list[dict]  # N
    boxes: (
        np.ndarray
    )  # (N, 4) float64, absolute pixels XYXY as written (corners not sorted); NaN where not four numbers
    sizes: np.ndarray  # (N, 2) float64, width and height of the image; NaN where unknown

    def __len__(self) -> int:
        return len(self.annotations)


def objects_of(data: LabelledData) -> Objects:
    """The objects of all images, in the order of the records."""
    pairs = [(record, annotation) for record in data.records for annotation in record["annotations"]]
    boxes = np.full((len(pairs), 4), np.nan)
    for row, (_, annotation) in enumerate(pairs):
        boxes[row] = box_of(annotation)
    sizes = [(record.get("width") or np.nan, record.get("height") or np.nan) for record, _ in pairs]
    records, annotations = [list(column) for column in zip(*pairs)] or [[], []]
    return Objects(records, annotations, boxes, np.array(sizes, float).reshape(-1, 2))


def box_of(annotation: dict) -> tuple[float, float, float, float]:
    """The box of an annotation as absolute pixels XYXY; four NaN where it is not four numbers."""
    try:
        x, y, z, t = map(float, annotation["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return (float("nan"),) * 4
    if annotation.get("bbox_mode") == BoxMode.XYWH_ABS:
        return x, y, x + z, y + t
    return x, y, z, t
