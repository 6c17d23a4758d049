"""VIA (VGG Image Annotator): one JSON file for many images, as annotations are exported or as a project is saved.

Versions 1 (regions in a dictionary), 2 (in a list; in a project below `_via_img_metadata`) and 3 (shapes below
`metadata`, files and attributes beside them). Polygons are kept, and so are polylines, closed; a rectangle is a box
without a mask; circles and ellipses become polygons; points and lines are not objects. Coordinates are continuous.

The class of a region is one of its attributes, which VIA lets everyone name as they like: see `class_attribute`. Where
regions have no attributes, all are of the one class `object`. Format: https://www.robots.ox.ac.uk/~vgg/software/via/
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode
from rcnnkit.data.formats.json_file import JsonError, head, read_json
from rcnnkit.data.formats.lookup import find_picture, folder_split, nothing_read, picture_size
from rcnnkit.data.formats.outlines import ellipse, numbers, polygons_box
from rcnnkit.data.formats.via_project import Image, Region, images_of
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog, class_index
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import Tree

logger = logging.getLogger(__name__)

ONLY_CLASS = "object"
_USUAL_NAMES = ("class", "label", "category", "name", "type", "object", "species")
_NOT_SHAPES = frozenset({"line", "point"})
_SPLIT_FILE = re.compile(r"(?:.*[-_. ])?(train|val|valid|validation|test)", re.IGNORECASE)
_IMAGE = re.compile(r'"filename"\s*:')
_ITS_KEYS = re.compile(r'"(?:base64_img_data|file_attributes|region_attributes|regions|shape_attributes)"\s*:')
_PROJECT = re.compile(r'"_via_(?:settings|img_metadata)"\s*:')
_VERSION_3 = re.compile(r'"data_format_version"\s*:\s*"3|"pid"\s*:\s*"__VIA_PROJECT_ID__"')
_QUICKLY_READ = 1 << 24  # bytes: what `recognise` reads whole, to say which attribute is the class


class RegionError(ValueError):
    """A region that is no object: the field, its value and what to do."""

    def __init__(self, field: str, value: object, advice: str, kind: str = "shape-unreadable"):
        super().__init__(advice)
        self.field, self.value, self.advice, self.kind = field, value, advice, kind


class ViaReader:
    """Reads JSON files of VIA 1, 2 and 3."""

    name = "via"

    def recognise(self, tree: Tree) -> str | None:
        """One of the first JSON files begins as VIA writes it."""
        files = tree.annotation_files(".json")
        for path in files[:8]:
            if not _is_via(head(path)):
                continue
            reason = f"{tree.relative(path)} is JSON of VIA"
            if path.stat().st_size > _QUICKLY_READ or len(files) > 8:
                return reason
            parts = [images for other in files if (images := _images(tree, other, ProblemLog())) is not None]
            attribute = class_attribute([region for images in parts for image in images for region in image.regions])
            return f"{reason}; {_explain(attribute)}"
        return None

    def splits(self, tree: Tree) -> list[str]:
        """The folders (train, val, ...) that hold JSON files of VIA; else the files that are called like splits."""
        return sorted(
            {split for path in tree.annotation_files(".json") if _is_via(head(path)) and (split := _split(tree, path))}
        )

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one split, or all. The attribute that is the class and the sorted classes are those of all splits."""
        contents: dict[Path, list[Image]] = {}
        chosen: list[Path] = []
        for path in shown(tree.annotation_files(".json"), "reading labels"):
            wanted = split is None or _split(tree, path) == split
            images = _images(tree, path, problems if wanted else ProblemLog())
            if images is not None:
                contents[path] = images
                chosen += [path] if wanted else []
        if not chosen:
            raise nothing_read(tree, "VIA JSON", problems)
        regions = [region for images in contents.values() for image in images for region in image.regions]
        attribute = class_attribute(regions)
        logger.info("%s: %s", tree.root, _explain(attribute))
        classes = [ONLY_CLASS]
        if attribute is not None:
            classes = sorted({name for region in regions if (name := class_name(region, attribute)) is not None})
        index = class_index(classes)
        records: dict[str, dict] = {}
        for path in chosen:
            for image in shown(contents[path], "finding images", " images"):
                record = _record(tree, path, image, attribute, index, problems)
                if record is None:
                    continue
                if record["file_name"] in records:
                    advice = "the image is listed twice, and the first one counts; join the two"
                    where = {"id": image.id, "field": "filename", "value": image.name}
                    problems.add("image-listed-twice", tree.relative(path), advice, **where)
                    continue
                records[record["file_name"]] = record
        return LabelledData(self.name, classes, list(records.values()), chosen)


def class_attribute(regions: Sequence[Region]) -> str | None:
    """The attribute of regions that is their class; None where no region has an attribute that could be.

    One that at least half of the regions have and that is called class, label, category or the like; else the one that
    most regions have; of several, the one with the fewest different values, and of those the first by the alphabet.
    """
    having: Counter[str] = Counter()
    values: dict[str, set[str]] = {}
    for region in regions:
        for attribute in region.attributes:
            name = class_name(region, attribute)
            if name is not None:
                having[attribute] += 1
                values.setdefault(attribute, set()).add(name)
    if not having:
        return None
    usual = [name for name in having if name.strip().lower() in _USUAL_NAMES and 2 * having[name] >= len(regions)]
    if usual:
        return min(usual, key=lambda name: (_USUAL_NAMES.index(name.strip().lower()), name))
    return min(having, key=lambda name: (-having[name], len(values[name]), name))


def class_name(region: Region, attribute: str) -> str | None:
    """The value of an attribute as a class: a text, a number, or the only ticked one of several boxes."""
    value = region.attributes.get(attribute)
    if isinstance(value, dict):
        ticked = [name for name, state in value.items() if state is True]
        value = ticked[0] if len(ticked) == 1 else None
    if type(value) is int:
        value = str(value)
    return value.strip() or None if isinstance(value, str) else None


def _explain(attribute: str | None) -> str:
    if attribute is None:
        return f"regions have no attributes, so all are of one class, {ONLY_CLASS!r}"
    return f"the class is the region attribute {attribute!r}"


def _is_via(text: str) -> bool:
    """Whether this is the beginning of a file of VIA."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return False
    if _PROJECT.search(text) or _VERSION_3.search(text):
        return True
    return bool(_IMAGE.search(text) and _ITS_KEYS.search(text))


def _split(tree: Tree, path: Path) -> str | None:
    folder = folder_split(tree, path)
    if folder is not None:
        return folder
    named = _SPLIT_FILE.fullmatch(path.stem)
    return named[1] if named else None


def _images(tree: Tree, path: Path, problems: ProblemLog) -> list[Image] | None:
    """What a file of VIA says about images; None for other JSON. Damage is a problem."""
    text = head(path)
    if not _is_via(text):
        return None
    try:
        return images_of(read_json(path), tree.relative(path), problems)
    except JsonError as error:
        problems.add("file-unreadable", tree.relative(path), str(error))
    return None


def _record(
    tree: Tree, path: Path, image: Image, attribute: str | None, index: dict[str, int], problems: ProblemLog
) -> dict | None:
    """The record of an image; None, and a problem, where the image cannot be used."""
    folders = [path.parent / image.folder] if image.folder else []
    picture = find_picture(tree, [image.name], path, problems, id=image.id, folders=folders)
    size = None if picture is None else picture_size(tree, picture, problems)
    if picture is None or size is None:
        return None
    width, height = size
    root = tree.root if picture.is_relative_to(tree.root) or tree.images_root is None else tree.images_root
    return {
        "file_name": str(picture),
        "height": height,
        "width": width,
        "image_id": picture.relative_to(root).as_posix(),
        "annotations": list(_annotations(tree.relative(path), image, attribute, index, problems)),
    }


def _annotations(
    file: str, image: Image, attribute: str | None, index: dict[str, int], problems: ProblemLog
) -> Iterator[dict]:
    for region in image.regions:
        where = f"{image.name} {region.id}"
        try:
            outline = region_outline(region.shape)
            name = ONLY_CLASS if attribute is None else class_name(region, attribute)
            if name is None:
                advice = "the region has no class; choose one"
                raise RegionError(str(attribute), region.attributes.get(str(attribute)), advice, "class-missing")
        except RegionError as error:
            severity = {"severity": WARNING} if error.kind == "shape-unused" else {}
            problems.add(error.kind, file, error.advice, id=where, field=error.field, value=error.value, **severity)
            continue
        yield {
            "category_id": index[name],
            "bbox_mode": BoxMode.XYXY_ABS,
            "iscrowd": 0,
            **outline,
            "id": where,
        }


def region_outline(shape: Any) -> dict:
    """`bbox` (XYXY) and, but for rectangles, `segmentation` of a region's `shape_attributes`.

    Raises:
        RegionError: it is no shape, or not an object's.
    """
    kind = shape.get("name") if isinstance(shape, dict) else None
    if not isinstance(kind, str):
        raise RegionError("shape_attributes", shape, "a shape has a name, such as polygon; correct it")
    if kind == "rect":
        x, y, width, height = _fields(shape, "x", "y", "width", "height")
        return {"bbox": [x, y, x + width, y + height]}
    if kind in ("polygon", "polyline"):
        polygon = _polygon(shape)
    elif kind == "circle":
        x, y, radius = _fields(shape, "cx", "cy", "r")
        polygon = ellipse(x, y, radius, radius)
    elif kind == "ellipse":
        angle = {"theta": 0, **shape}
        polygon = ellipse(*_fields(angle, "cx", "cy", "rx", "ry", "theta"))
    elif kind in _NOT_SHAPES:
        raise RegionError("name", kind, "it is not an object and is not used", "shape-unused")
    else:
        advice = "known are polygon, polyline, rect, circle and ellipse; draw the object as one of them"
        raise RegionError("name", kind, advice, "shape-unused")
    return {"bbox": polygons_box([polygon]), "segmentation": [polygon]}


def _fields(shape: dict, *names: str) -> list[float]:
    for name in names:
        if numbers([shape.get(name)]) is None:
            raise RegionError(name, shape.get(name), f"a {shape['name']} has a number here; correct it")
    return [float(shape[name]) for name in names]


def _polygon(shape: dict) -> list[float]:
    xs, ys = numbers(shape.get("all_points_x")), numbers(shape.get("all_points_y"))
    for name, values in (("all_points_x", xs), ("all_points_y", ys)):
        if not values:
            raise RegionError(name, shape.get(name), "it is a list of numbers; correct it or delete the region")
    if len(xs or []) != len(ys or []):
        value = f"{len(xs or [])} and {len(ys or [])} numbers"
        raise RegionError("all_points_x and all_points_y", value, "they are of equal length; correct them")
    return [value for point in zip(xs or [], ys or []) for value in point]
