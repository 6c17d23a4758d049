"""CVAT for images 1.1: one XML file with all images of a task or project, and its labels.

Coordinates are continuous pixels, as CVAT's canvas has them, and are taken as they are, also those of points.

- box: turned ones (`rotation`, degrees clockwise) by the upright box around them. polygon. mask: run lengths over the
  rows of its box, background first. ellipse: a polygon.
- skeleton: keypoints in the order of the label's points; outside → not labelled, occluded → hidden.
- points: two or more are keypoints without names; the first object of a label says how many it has.
- Polygons of one label and one `group_id` are the parts of one object, as CVAT's own export to COCO has it; so is the
  meaning of the attribute `is_crowd`.
- polyline, cuboid, tag and single points are no objects of ours: a warning for each kind says how many were left out.

Format: https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

from detectron2.structures import BoxMode
from rcnnkit.data.formats.cvat_shapes import OBJECTS, SHAPES, CvatLabel, Geometry, ShapeError
from rcnnkit.data.formats.lookup import find_picture, folder_split, picture_size
from rcnnkit.data.formats.outlines import boxes_union
from rcnnkit.data.formats.xml_file import XmlError, first_tags, walk_xml
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog, Skeleton, number_classes
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

_TAG = re.compile(r"<(line|circle)\b([^>]*)>")
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')


class CvatReader:
    """Reads CVAT for images."""

    name = "cvat"

    def recognise(self, tree: Tree) -> str | None:
        """An XML file whose root is <annotations>, with a version, labels or images below."""
        for path in tree.annotation_files(".xml")[:20]:
            if _is_cvat(path):
                return f"{tree.relative(path)} has <annotations> as CVAT writes it"
        return None

    def splits(self, tree: Tree) -> list[str]:
        """The subsets of a CVAT project, else the folders (train, val, ...) that hold CVAT files."""
        found = set()
        for path in _files(tree):
            in_folder = folder_split(tree, path)
            try:
                for event, element in walk_xml(path):
                    if event == "start" and element.tag == "image":
                        found.add(element.get("subset") or in_folder)
                    elif event == "end":
                        element.clear()
            except XmlError:
                continue  # reading tells it
        return sorted(split for split in found if split)

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one subset or all; classes are the labels of all files, in their order."""
        reading = _Reading(tree, split, problems)
        files = _files(tree)
        for path in files:
            reading.read_file(path, alone=len(files) == 1)
        if not reading.images_seen:
            first = next((str(problem) for problem in problems), "")
            advice = "export it as 'CVAT for images 1.1'"
            raise UserError(f"{tree.root}: no CVAT file with images can be read; {first or advice}")
        return reading.result(files)


def _files(tree: Tree) -> list[Path]:
    return [path for path in tree.annotation_files(".xml") if _is_cvat(path)]


def _is_cvat(path: Path) -> bool:
    tags = first_tags(path, 2)
    return tags[:1] == ["annotations"] and tags[1:] in (["version"], ["meta"], ["image"], ["track"])


class _Reading:
    """The state of one reading, over all its files."""

    def __init__(self, tree: Tree, split: str | None, problems: ProblemLog):
        self.tree, self.split, self.problems = tree, split, problems
        self.labels: dict[str, CvatLabel] = {}
        self.records: list[dict] = []
        self.images_seen = 0
        self.ids: set[int | str] = set()

    def read_file(self, path: Path, alone: bool) -> None:
        file = self.tree.relative(path)
        in_folder = folder_split(self.tree, path)
        skipped: Counter[str] = Counter()
        root, has_labels = None, False
        try:
            for event, element in shown(walk_xml(path), "reading labels", " tags"):
                root = element if root is None else root
                if event == "start":
                    continue
                if element.tag == "meta":
                    labels = _labels(element)
                    has_labels = bool(labels)
                    for label in labels:
                        self.labels.setdefault(label.name, label)
                elif element.tag == "image":
                    self.images_seen += 1
                    if self.split is None or (element.get("subset") or in_folder) == self.split:
                        self._image(path, element, alone, skipped, closed=has_labels)
                elif element.tag == "track":
                    skipped["track"] += 1
                if element.tag in ("image", "track"):
                    root.clear()
        except XmlError as error:
            self.problems.add("file-unreadable", file, str(error))
        for kind, count in sorted(skipped.items()):
            advice = f"{count} left out: {_WHY_SKIPPED.get(kind, 'this kind of shape is not read')}"
            self.problems.add("shape-unused", file, advice, field="shape", value=kind, severity=WARNING)

    def _image(self, path: Path, image: Element, alone: bool, skipped: Counter[str], closed: bool) -> None:
        file = self.tree.relative(path)
        number, name, subset = image.get("id", ""), image.get("name", ""), image.get("subset")
        image_id: int | str = int(number) if re.fullmatch("[0-9]{1,18}", number) else number or name
        if not alone:
            image_id = f"{file}:{image_id}"
        if image_id in self.ids:
            advice = "two images have this id; give the second another one; it is left out"
            self.problems.add("duplicate-image-id", file, advice, id=name, field="id", value=number)
            return
        self.ids.add(image_id)
        folders = [path.parent / "images", *([path.parent / "images" / subset] if subset else [])]
        picture = find_picture(self.tree, [name], path, self.problems, id=number, folders=folders)
        if picture is None:
            return
        width, height = (_positive(image.get(key)) for key in ("width", "height"))
        if width is None or height is None:
            size = picture_size(self.tree, picture, self.problems)
            if size is None:
                return
            width, height = size
        shapes = _Shapes(self, file, f"image {number or name}", (height, width), closed)
        for position, shape in enumerate(image, 1):
            if shape.tag in OBJECTS:
                shapes.add(position, shape, skipped)
            else:
                skipped[shape.tag] += 1
        record = {"file_name": str(picture), "height": height, "width": width, "image_id": image_id}
        self.records.append({**record, "annotations": shapes.annotations})

    def result(self, files: list[Path]) -> LabelledData:
        number_classes(self.records, list(self.labels))
        skeletons = {
            position: Skeleton(tuple(label.points), tuple(label.edges))
            for position, label in enumerate(self.labels.values())
            if label.points
        }
        return LabelledData(CvatReader.name, list(self.labels), self.records, files, skeletons)


_WHY_SKIPPED = {
    "track": "objects of a video; export it as 'CVAT for images 1.1'",
    "tag": "a tag is of the whole image",
    "polyline": "a line has no area; draw a polygon",
    "points": "a single point has no extent; draw a box or use a skeleton",
}


class _Shapes:
    """The objects of one image."""

    def __init__(self, reading: _Reading, file: str, id: str, size: tuple[int, int], closed: bool):
        self.reading, self.file, self.id, self.size = reading, file, id, size
        self.closed = closed  # the file lists its labels: others are mistakes
        self.annotations: list[dict] = []
        self.groups: dict[tuple[str, str], dict] = {}

    def add(self, position: int, shape: Element, skipped: Counter[str]) -> None:
        """Read the shape at a position in the image, counted from 1."""
        name, problems = shape.get("label", ""), self.reading.problems
        id = f"{self.id}, shape {position}"
        labels = self.reading.labels
        if not name or (name not in labels and self.closed):
            known = ", ".join(list(labels)[:10])
            advice = f"the label is not among the file's ({known}); correct it or add the label"
            problems.add("class-unknown", self.file, advice, id=id, field="label", value=name)
            return
        label = labels.setdefault(name, CvatLabel(name))
        try:
            geometry = SHAPES[shape.tag](shape, self.size, label)
        except ShapeError as error:
            problems.add(error.kind, self.file, str(error), id=id, field=error.field, value=error.value)
            return
        if geometry is None:
            skipped[shape.tag] += 1
            return
        group = shape.get("group_id", "0")
        if shape.tag == "polygon" and group != "0":
            whole = self.groups.get((name, group))
            if whole is not None:
                _join(whole, geometry)
                return
        self.annotations.append(_annotation(shape, name, geometry))
        if shape.tag == "polygon":
            self.groups[name, group] = self.annotations[-1]


def _annotation(shape: Element, name: str, geometry: Geometry) -> dict:
    crowd = any(
        item.get("name") == "is_crowd" and (item.text or "").strip().lower() in ("1", "true")
        for item in shape.findall("attribute")
    )
    annotation = {
        "category_id": name,
        "bbox": geometry.box,
        "bbox_mode": BoxMode.XYXY_ABS,
        "iscrowd": int(crowd),
    }
    if geometry.segmentation is not None:
        annotation["segmentation"] = geometry.segmentation
    if geometry.keypoints is not None:
        annotation["keypoints"] = geometry.keypoints
    return annotation


def _join(whole: dict, part: Geometry) -> None:
    """Add a polygon to the object whose part it is."""
    whole["bbox"] = boxes_union([whole["bbox"], part.box])
    whole["segmentation"] += part.segmentation


def _labels(meta: Element) -> list[CvatLabel]:
    """The labels of <meta> in order, the points of a skeleton with their skeleton."""
    labels: dict[str, CvatLabel] = {}
    items = [(item, (item.findtext("name") or "").strip()) for item in meta.iter("label")]
    for item, name in items:
        if name and not item.findtext("parent"):
            labels.setdefault(name, CvatLabel(name))
    for item, name in items:
        parent = labels.get((item.findtext("parent") or "").strip())
        if parent is not None and name:
            parent.points.append(name)
    for item, name in items:
        if name in labels and not item.findtext("parent"):
            labels[name].edges = _edges(item.findtext("svg") or "", labels[name].points)
    return list(labels.values())


def _edges(svg: str, points: list[str]) -> list[tuple[int, int]]:
    """Pairs of indices into `points`, from the drawing of a skeleton: its circles name the points, its lines join."""
    elements = [(tag, dict(_ATTRIBUTE.findall(attributes))) for tag, attributes in _TAG.findall(svg)]
    nodes = {}
    for position, element in enumerate(element for tag, element in elements if tag == "circle"):
        name = element.get("data-label-name")
        nodes[element.get("data-node-id")] = points.index(name) if name in points else position
    pairs = (
        (nodes.get(element.get("data-node-from")), nodes.get(element.get("data-node-to")))
        for tag, element in elements
        if tag == "line"
    )
    return [(a, b) for a, b in pairs if a is not None and b is not None and max(a, b) < len(points)]


def _positive(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) and int(text) > 0 else None
