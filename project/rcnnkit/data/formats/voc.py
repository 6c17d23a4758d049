"""Pascal VOC: one XML file per image, in VOC's folders or flat beside the images; also as ImageNet and others write it.

Coordinates. VOC counts pixels from 1 and names the first and the last pixel of an object, so its box in continuous
coordinates is (xmin - 1, ymin - 1, xmax, ymax): what Detectron2's `load_voc_instances` gives. Two things in files of
other tools cannot be counted so and stay as they are written, edge by edge: a first pixel below 1 (CVAT, Datumaro and
some converters count from 0), and an edge that lies on or beyond the opposite one (a box without area, as such tools
write it, would grow a pixel).

`difficult` objects are neither objects nor background (`ignore`), as VOC's own evaluation has it; truncated and
occluded ones are objects like any other. An object's polygon is read as Roboflow writes it; its parts are not read.
Format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from detectron2.structures import BoxMode
from rcnnkit.data.formats.lookup import find_picture, folder_split, nothing_read, picture_size
from rcnnkit.data.formats.xml_file import XmlError, first_tags, read_xml
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog, number_classes
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import IMAGE_SUFFIXES, Tree

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_CLASS_LINE = re.compile(
    r"\S+\s+(-1|0|1)"
)  # in ImageSets/Main/<class>_<split>.txt: image, and whether it has the class


class VocReader:
    """Reads Pascal VOC XML."""

    name = "voc"

    def recognise(self, tree: Tree) -> str | None:
        """Among the first, middle and last XML files is one whose root is <annotation>, with a size or a box."""
        files = tree.annotation_files(".xml")
        for path in sorted({files[0], files[len(files) // 2], files[-1]}) if files else ():
            if _is_voc(path):
                lists = " and ImageSets" if _lists(tree) else ""
                return f"{len(files)} XML files{lists}; {tree.relative(path)} has <annotation> as Pascal VOC writes it"
        return None

    def splits(self, tree: Tree) -> list[str]:
        """The lists in ImageSets/Main; without them, the folders (train, val, ...) that hold XML files."""
        lists = _lists(tree)
        if lists:
            return sorted(lists)
        return sorted({split for path in tree.annotation_files(".xml") if (split := folder_split(tree, path))})

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one split, or all XML files. Classes are those of all splits: of labelmap.txt, then by the alphabet."""
        files = tree.annotation_files(".xml")
        chosen = set(files) if split is None else _chosen(tree, files, split, problems)
        same_stem = Counter(path.stem for path in files)
        records: list[dict] = []
        used: list[Path] = []
        names: set[str] = set()
        for path in shown(files, "reading labels"):
            wanted = path in chosen
            try:
                root = read_xml(path)
            except XmlError as error:
                if wanted:
                    problems.add("file-unreadable", tree.relative(path), str(error))
                continue
            if root.tag != "annotation":
                continue
            names.update(name for item in root.findall("object") if (name := _text(item, "name")))
            if wanted:
                used.append(path)
                record = _record(tree, path, root, problems)
                if record is not None:
                    unique = same_stem[path.stem] == 1
                    record["image_id"] = path.stem if unique else tree.relative(path.with_suffix(""))
                    records.append(record)
        if not used:
            raise nothing_read(tree, "Pascal VOC XML file", problems)
        classes = _classes(tree, names)
        number_classes(records, classes)
        return LabelledData(self.name, classes, records, used)


def _is_voc(path: Path) -> bool:
    if first_tags(path, 1) != ["annotation"]:
        return False
    try:
        root = read_xml(path)
    except XmlError:
        return True  # reading tells what is wrong with it
    return root.find("size") is not None or root.find("object/bndbox") is not None


def _lists(tree: Tree) -> dict[str, list[Path]]:
    """The split lists of ImageSets/Main by name, those of several years (VOC2007, VOC2012) together.

    The lists of single classes, such as aeroplane_train.txt, are left out.
    """
    found = defaultdict(list)
    for path in tree.with_suffix(".txt") if tree.annotation_file is None else ():
        if path.parent.name == "Main" and path.parent.parent.name == "ImageSets":
            found[path.stem].append(path)
    return {name: paths for name, paths in found.items() if not _is_of_a_class(name, found)}


def _is_of_a_class(name: str, lists: dict[str, list[Path]]) -> bool:
    _, underscore, split = name.rpartition("_")
    if not underscore or split not in lists:
        return False
    lines = _lines(lists[name][0])
    return bool(lines) and all(_CLASS_LINE.fullmatch(line) for line in lines[:20])


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _chosen(tree: Tree, files: list[Path], split: str, problems: ProblemLog) -> set[Path]:
    """The XML files of a split. A listed name that has none is a problem, and so is one that is listed twice."""
    lists = _lists(tree)
    if split not in lists:
        return {path for path in files if folder_split(tree, path) == split}
    known = set(files)
    by_stem = defaultdict(list)
    for path in files:
        by_stem[path.stem].append(path)
    chosen: set[Path] = set()
    for listing in lists[split]:
        annotations = listing.parents[2] / "Annotations"
        for number, line in enumerate(_lines(listing), 1):
            entry = _without_suffix(line)
            path = annotations / f"{entry}.xml"
            if path not in known:
                same = by_stem[PurePosixPath(entry).name]
                path = same[0] if len(same) == 1 else path
            where = {"id": f"line {number}", "field": "image", "value": line}
            if path not in known:
                advice = "no XML file has this name; add it (one without objects, if there are none) or delete the line"
                problems.add("annotation-missing", tree.relative(listing), advice, **where)
            elif path in chosen:
                advice = "the image is listed twice; delete the line"
                problems.add("image-listed-twice", tree.relative(listing), advice, severity=WARNING, **where)
            chosen.add(path)
    return chosen & known


def _without_suffix(line: str) -> str:
    """`000005`, for `000005`, `000005.xml` and `000005.jpg`."""
    entry = PurePosixPath(line.replace("\\", "/"))
    return str(entry.with_suffix("")) if entry.suffix.lower() in {*IMAGE_SUFFIXES, ".xml"} else str(entry)


def _classes(tree: Tree, names: set[str]) -> list[str]:
    """Names in the order of labelmap.txt (`name:colour:parts:actions`), if there is one; then the others sorted."""
    listed: list[str] = []
    for path in tree.with_suffix(".txt"):
        if path.name == "labelmap.txt":
            listed += [line.split(":")[0].strip() for line in _lines(path) if not line.startswith("#")]
    listed = [name for name in dict.fromkeys(listed) if name and (name != "background" or name in names)]
    return listed + sorted(names.difference(listed))


def _record(tree: Tree, path: Path, root: Element, problems: ProblemLog) -> dict | None:
    """A record whose annotations have class names for `category_id`; None, and a problem, without its image."""
    named = _text(root, "filename")
    # ImageNet leaves the suffix away, and files are renamed together with their XML: its own name is the second guess.
    picture = find_picture(tree, [named, path.stem] if named else [path.stem], path, problems)
    if picture is None:
        return None
    size = _positive(root, "size/width"), _positive(root, "size/height")
    width, height = size if all(size) else picture_size(tree, picture, problems) or (None, None)
    if width is None:
        return None
    file = tree.relative(path)
    annotations = [
        annotation
        for number, item in enumerate(root.findall("object"), 1)
        if (annotation := _annotation(item, file, f"object {number}", problems)) is not None
    ]
    return {"file_name": str(picture), "height": height, "width": width, "image_id": "", "annotations": annotations}


def _annotation(item: Element, file: str, id: str, problems: ProblemLog) -> dict | None:
    name = _text(item, "name")
    if not name:
        problems.add("class-missing", file, "the object has no class; write its name", id=id, field="name", value=name)
        return None
    corners = item.find("bndbox")
    written = {} if corners is None else _values(corners)
    try:
        xmin, ymin, xmax, ymax = (float(written[corner]) for corner in _CORNERS)
    except (KeyError, ValueError):
        advice = "a box is four numbers xmin, ymin, xmax, ymax; correct it or delete the object"
        problems.add("box-unreadable", file, advice, id=id, field="bndbox", value=written)
        return None
    annotation = {
        "category_id": name,
        "bbox": [_first_edge(xmin, xmax), _first_edge(ymin, ymax), xmax, ymax],
        "bbox_mode": BoxMode.XYXY_ABS,
        "iscrowd": 0,
    }
    if _text(item, "difficult") == "1":
        annotation["ignore"] = 1
    polygon = item.find("polygon")
    if polygon is not None:
        outline = _outline(polygon)
        if outline is None:
            advice = "a polygon is numbers x1, y1, x2, y2, ...; correct it; the object is used without"
            problems.add("polygon-unreadable", file, advice, id=id, field="polygon", value=_values(polygon))
        else:
            annotation["segmentation"] = [outline]
    return annotation


def _outline(polygon: Element) -> list[float] | None:
    """[x1, y1, x2, y2, ...] of Roboflow's <polygon><x1>..</x1><y1>..</y1> ..., as it is written."""
    values = _values(polygon)
    count = len(values) // 2
    try:
        return [float(values[f"{axis}{number}"]) for number in range(1, count + 1) for axis in "xy"] or None
    except (KeyError, ValueError):
        return None


def _values(element: Element) -> dict[str, str]:
    return {child.tag: (child.text or "").strip() for child in element}


def _first_edge(first: float, last: float) -> float:
    """The edge before the first pixel; see the head of this file."""
    return first - 1 if 1 <= first < last else first


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _positive(root: Element, path: str) -> int | None:
    """A whole number above 0, also when it is written 486.0; None otherwise."""
    try:
        value = float(_text(root, path))
        return int(value) if value >= 1 else None
    except (OverflowError, ValueError):
        return None
