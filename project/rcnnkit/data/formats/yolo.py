"""YOLO: one text file of labels per image, one line per object, in fractions of the image's width and height.

A line begins with the number of the class and goes on with

- `x y width height`: a box by its centre,
- `x0 y0 x1 y1 x2 y2 ...`: a polygon of three points or more,
- `x y width height` and `kpt_shape` of data.yaml: keypoints with two numbers each (a point at 0 0 is not labelled) or
  three (the last is COCO's visibility).

Kinds may be mixed within a file. Fractions times the size of the upright picture are continuous pixel coordinates, for
keypoints too. An image without a file of labels has no objects. Formats: https://docs.ultralytics.com/datasets
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from detectron2.structures import BoxMode
from rcnnkit.data.formats.lookup import picture_size
from rcnnkit.data.formats.outlines import polygons_box
from rcnnkit.data.formats.yolo_description import Points
from rcnnkit.data.formats.yolo_layout import Labels, Layout, find_layout, images_of, read_lines
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog, Skeleton, number_classes
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import OutsideError, Tree
from rcnnkit.errors import UserError

_MOST_CLASSES = 10_000  # where the classes have no names, a higher number is taken for damage


class LineError(ValueError):
    """A line of labels that is no object: the kind of the problem, the field, its value and what to do."""

    def __init__(self, kind: str, field: str, value: object, advice: str):
        super().__init__(advice)
        self.kind, self.field, self.value, self.advice = kind, field, value, advice


class YoloReader:
    """Reads YOLO's text files, of Ultralytics and of Darknet."""

    name = "yolo"

    def recognise(self, tree: Tree) -> str | None:
        """A data.yaml, Darknet's .names with lists, or images with text files of labels; see `yolo_layout`."""
        layout = find_layout(tree, ProblemLog())
        return None if layout is None else layout.reason

    def splits(self, tree: Tree) -> list[str]:
        """Those that data.yaml or obj.data name and that are there; without such a file the folders'."""
        layout = find_layout(tree, ProblemLog())
        return [] if layout is None else [split for split in layout.sources if split]

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one split, or all. Classes are those that the folder names, in their order; else the numbers found."""
        layout = find_layout(tree, problems)
        images = [] if layout is None else images_of(tree, layout, split, problems)
        if layout is None or not images:
            where = f"{tree.root}@{split}" if split else str(tree.root)
            raise UserError(f"{where}: no images with YOLO's labels; see docs/datasets.md for the folders")
        labels = Labels(tree)
        records, used = [], []
        for image in shown(images, "reading labels"):
            label = labels.of(image)
            record = _record(tree, image, label, layout, problems)
            if record is not None:
                records.append(record)
                used += [] if label is None else [label]
        if split is None or set(layout.sources) == {split}:
            _report_lone_labels(tree, labels, images, used, problems)
        names = layout.names or _numbered(tree, records, problems)
        number_classes(records, list(names))
        listings = [path for paths in layout.sources.values() for path in paths if path.is_file()]
        numbers = list(names)
        return LabelledData(
            self.name,
            list(names.values()),
            records,
            layout.files + listings + used,
            _skeletons(names, layout.points),
            None if numbers == list(range(len(numbers))) else numbers,
        )


def parse_line(line: str, width: int, height: int, points: Points | None = None) -> dict:
    """The annotation that a line of labels says; its `category_id` is the number in the line.

    Args:
        line: as in the file, not blank.
        width, height: of the image in pixels.
        points: the keypoints that a line may have.

    Raises:
        LineError: it says none.
    """
    fields = line.split()
    try:
        values = [float(field) for field in fields]
    except ValueError:
        wrong = next(field for field in fields if not _is_number(field))
        raise LineError("label-line", "value", wrong, "it is not a number; correct the line or delete it") from None
    number = values.pop(0)
    if not (math.isfinite(number) and number >= 0 and number == int(number)):
        raise LineError("class-unknown", "class", fields[0], "classes are whole numbers from 0; correct the line")
    annotation: dict = {"category_id": int(number), "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    if len(values) == 4 or (points is not None and len(values) == 4 + points.count * points.numbers):
        x, y, w, h = values[:4]
        annotation["bbox"] = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
        if points is not None and len(values) > 4:
            annotation["keypoints"] = _keypoints(values[4:], width, height, points.numbers)
    elif len(values) >= 6 and len(values) % 2 == 0 and points is None:
        polygon = [value * (height if place % 2 else width) for place, value in enumerate(values)]
        annotation["segmentation"] = [polygon]
        annotation["bbox"] = polygons_box([polygon])
    else:
        raise LineError("label-line", "numbers after the class", len(values), _advice(len(values), points))
    return annotation


def _advice(count: int, points: Points | None) -> str:
    if points is not None:
        wanted = 4 + points.count * points.numbers
        return f"a box has 4 and {points.count} keypoints make it {wanted} (kpt_shape of data.yaml); correct it"
    if count == 5:
        return "a box has 4, a polygon an even number from 6; delete the last one if it is a confidence"
    return "a box has 4, a polygon an even number from 6; correct the line, or write kpt_shape if these are keypoints"


def _keypoints(values: list[float], width: int, height: int, numbers: int) -> list[float]:
    keypoints: list[float] = []
    for start in range(0, len(values), numbers):
        x, y = values[start : start + 2]
        visibility: float = values[start + 2] if numbers == 3 else 0 if x <= 0 and y <= 0 else 2
        if math.isfinite(visibility) and visibility == int(visibility):
            visibility = int(visibility)
        keypoints += [x * width, y * height, visibility]
    return keypoints


def _record(tree: Tree, image: Path, label: Path | None, layout: Layout, problems: ProblemLog) -> dict | None:
    """The record of an image; None, and a problem, where the image cannot be used."""
    for kind, path in (("image-outside", image), ("label-outside", label)):
        try:
            # Folders that are links are not entered (see `Tree.files`), so only the file itself can lead out.
            if path is not None and path.is_symlink():
                tree.inside(path)
        except OutsideError as error:
            problems.add(kind, tree.relative(path or image), str(error))
            return None
    size = picture_size(tree, image, problems)
    if size is None:
        return None
    width, height = size
    annotations: list[dict] = []
    if label is not None:
        annotations = _annotations(tree, label, width, height, layout, problems)
    root = tree.root if image.is_relative_to(tree.root) or tree.images_root is None else tree.images_root
    image_id = image.relative_to(root).as_posix()
    return {
        "file_name": str(image),
        "height": height,
        "width": width,
        "image_id": image_id,
        "annotations": annotations,
    }


def _annotations(tree: Tree, label: Path, width: int, height: int, layout: Layout, problems: ProblemLog) -> list[dict]:
    file = tree.relative(label)
    try:
        lines = read_lines(label)
    except OSError as error:
        advice = f"the labels cannot be read ({error.strerror}); mend or remove the file"
        problems.add("file-unreadable", file, advice)
        return []
    annotations = []
    for row, line in enumerate(lines, 1):
        if not line:
            continue
        where = f"line {row}"
        try:
            annotation = parse_line(line, width, height, layout.points)
            _check_class(annotation["category_id"], layout.names)
        except LineError as error:
            problems.add(error.kind, file, error.advice, id=where, field=error.field, value=error.value)
            continue
        annotation["id"] = where
        annotations.append(annotation)
    return annotations


def _check_class(number: int, names: dict[int, str] | None) -> None:
    if names is None:
        if number >= _MOST_CLASSES:
            raise LineError("class-unknown", "class", number, "no class has such a number; correct the line")
    elif number not in names:
        advice = f"the {len(names)} classes have the numbers {min(names)} to {max(names)}; name this one or correct it"
        raise LineError("class-unknown", "class", number, advice)


def _numbered(tree: Tree, records: list[dict], problems: ProblemLog) -> dict[int, str]:
    """Classes that have no names are called by their numbers."""
    numbers = {annotation["category_id"] for record in records for annotation in record["annotations"]}
    advice = "the classes have no names and are called by their numbers; write data.yaml or classes.txt"
    problems.add("classes-unnamed", ".", advice, severity=WARNING)
    return {number: str(number) for number in range(max(numbers, default=0) + 1)}


def _report_lone_labels(tree: Tree, labels: Labels, images: list[Path], used: list[Path], problems: ProblemLog) -> None:
    """Text files among the labels that go with no image."""
    folders = Counter(path.parent for path in used)
    stems = {image.stem for image in images} | {image.stem for image in tree.images}
    for path in sorted(labels.texts.difference(used)):
        # Where labels lie beside other things, one of few, a text file may be anything.
        if path.parent in folders and path.stem not in stems and path.parent != tree.root:
            advice = "no image has this name; add the image or delete the file"
            problems.add("label-without-image", tree.relative(path), advice)


def _skeletons(names: dict[int, str], points: Points | None) -> dict[int, Skeleton]:
    if points is None:
        return {}
    pairs = None
    if points.flip:
        pairs = tuple((a, b) for a, b in enumerate(points.flip) if a < b and points.flip[b] == a)
    unnamed = [f"point {position}" for position in range(points.count)]
    skeletons = {}
    for position, number in enumerate(names):
        called = points.names.get(number) or points.names.get(-1) or unnamed
        skeletons[position] = Skeleton(tuple(called), flip_pairs=pairs)
    return skeletons


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
