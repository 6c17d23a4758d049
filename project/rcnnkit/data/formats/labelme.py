"""LabelMe: one JSON file per image, usually beside it.

Polygons are kept; a rectangle is a box without a mask; a circle (its centre and a point on it) becomes a polygon; a
`mask` (a PNG of the object's box, in base64) becomes RLE. Shapes of the same label and the same `group_id` are one
object. Points and lines are not objects. Pixels are continuous coordinates, as LabelMe draws them, except that the box
of a `mask` names its first and its last pixel. The image is the file that `imagePath` means, never the copy of it in
`imageData`. Only images with a JSON file are read. Format: https://github.com/wkentaro/labelme
"""

from __future__ import annotations

import base64
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats.json_file import JsonError, head, read_json
from rcnnkit.data.formats.lookup import find_picture, folder_split, nothing_read, picture_size
from rcnnkit.data.formats.outlines import boxes_union, ellipse, flat_points, polygons_box
from rcnnkit.data.images import MAX_IMAGE_PIXELS
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog, number_classes
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import Tree

_IMAGE_PATH = re.compile(r'"imagePath"\s*:')
_SHAPES = re.compile(r'"shapes"\s*:\s*\[')
_LABELME_KEY = re.compile(r'"(?:version|flags|imageData|imageHeight|shape_type)"\s*:')
_NO_OBJECTS = frozenset({"__ignore__", "_background_"})  # LabelMe's own labels for what is not an object
_NOT_SHAPES = frozenset({"line", "linestrip", "point", "points"})


class ShapeError(ValueError):
    """A shape that is no object: the field, its value and what to do."""

    def __init__(self, field: str, value: object, advice: str, kind: str = "shape-unreadable"):
        super().__init__(advice)
        self.field, self.value, self.advice, self.kind = field, value, advice, kind


class LabelMeReader:
    """Reads LabelMe's JSON files."""

    name = "labelme"

    def recognise(self, tree: Tree) -> str | None:
        """One of the first JSON files, those beside an image before others, has `imagePath` and `shapes`."""
        files = tree.annotation_files(".json")
        stems = {image.stem for image in tree.images} if files else set()
        named = [path for path in files if path.stem in stems]
        for path in dict.fromkeys([*named[:4], *files[:4]]):
            if _is_labelme(head(path)):
                return f"{len(files)} JSON files; {tree.relative(path)} has shapes and imagePath as LabelMe writes them"
        return None

    def splits(self, tree: Tree) -> list[str]:
        """The folders (train, val, ...) that hold JSON files."""
        return sorted({split for path in tree.annotation_files(".json") if (split := folder_split(tree, path))})

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one split, or all. Classes are those of labels.txt, in its order, then the others by the alphabet."""
        records: list[dict] = []
        used: list[Path] = []
        seen: dict[str, str] = {}
        for path in shown(tree.annotation_files(".json"), "reading labels"):
            if split is not None and folder_split(tree, path) != split:
                continue
            content = _content(tree, path, problems)
            if content is None:
                continue
            used.append(path)
            record = _record(tree, path, content, problems)
            if record is None:
                continue
            if record["file_name"] in seen:
                advice = f"{seen[record['file_name']]} has labels of the same image; join the two files"
                named = content.get("imagePath")
                problems.add("image-listed-twice", tree.relative(path), advice, field="imagePath", value=named)
                continue
            seen[record["file_name"]] = tree.relative(path)
            records.append(record)
        if not used:
            raise nothing_read(tree, "LabelMe JSON", problems)
        names = {annotation["category_id"] for record in records for annotation in record["annotations"]}
        classes = _classes(tree, names)
        number_classes(records, classes)
        return LabelledData(self.name, classes, records, used)


def _is_labelme(text: str) -> bool:
    """Whether this is the beginning of a LabelMe file: `imageData` may fill it, before the shapes or after them."""
    keys = [pattern.search(text) is not None for pattern in (_IMAGE_PATH, _SHAPES, _LABELME_KEY)]
    return text.lstrip("\ufeff \t\r\n").startswith("{") and sum(keys) >= 2


def _content(tree: Tree, path: Path, problems: ProblemLog) -> dict | None:
    """The content of a LabelMe file. Other JSON is passed over; a problem is what is damaged."""
    try:
        content = read_json(path)
    except JsonError as error:
        problems.add("file-unreadable", tree.relative(path), str(error))
        return None
    if not isinstance(content, dict) or not ("shapes" in content or "imagePath" in content):
        return None
    if not isinstance(content.get("shapes"), list):
        advice = "it is a list, empty for an image without objects; correct it"
        problems.add("shapes-missing", tree.relative(path), advice, field="shapes", value=content.get("shapes"))
        return None
    return content


def _classes(tree: Tree, names: set[str]) -> list[str]:
    listed: list[str] = []
    labels = tree.root / "labels.txt"
    if labels in tree.files:
        lines = labels.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        listed = [line.strip() for line in lines if line.strip() and line.strip() not in _NO_OBJECTS]
    listed = list(dict.fromkeys(listed))
    return listed + sorted(names.difference(listed))


def _record(tree: Tree, path: Path, content: dict, problems: ProblemLog) -> dict | None:
    """A record whose annotations have class names for `category_id`; None, and a problem, without its image."""
    picture = _picture(tree, path, content.get("imagePath"), problems)
    if picture is None:
        return None
    size = _size(content) or picture_size(tree, picture, problems)
    if size is None:
        return None
    width, height = size
    file = tree.relative(path)
    return {
        "file_name": str(picture),
        "height": height,
        "width": width,
        "image_id": PurePosixPath(file).with_suffix("").as_posix(),
        "annotations": list(_annotations(file, content["shapes"], width, height, problems)),
    }


def _size(content: dict) -> tuple[int, int] | None:
    """(width, height) as the file says them, where it does."""
    width, height = content.get("imageWidth"), content.get("imageHeight")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return int(width), int(height)
    return None


def _picture(tree: Tree, path: Path, named: object, problems: ProblemLog) -> Path | None:
    """The image of a JSON file.

    Files are moved together, and `imagePath` stays as it was: where it leads nowhere, or out of the folder, the image
    beside the JSON that is called like it and like `imagePath` is meant.
    """
    if not isinstance(named, str) or not named:
        advice = "it is the path of the image, relative to this file; write it"
        problems.add("image-missing", tree.relative(path), advice, field="imagePath", value=named)
        return None
    unheard = ProblemLog()
    found = find_picture(tree, [named], path, unheard)
    last = PurePosixPath(named.replace("\\", "/")).name
    if found is None and PurePosixPath(last).stem == path.stem:
        found = find_picture(tree, [last], path, ProblemLog())
    if found is None:
        problems.problems += unheard.problems
    return found


def _annotations(file: str, shapes: list, width: int, height: int, problems: ProblemLog) -> Iterator[dict]:
    groups: dict[tuple, list[dict]] = {}
    for place, shape in enumerate(shapes):
        where = f"shapes[{place}]"
        try:
            annotation = shape_annotation(shape, width, height)
        except ShapeError as error:
            severity = {"severity": WARNING} if error.kind == "shape-unused" else {}
            problems.add(error.kind, file, error.advice, id=where, field=error.field, value=error.value, **severity)
            continue
        annotation["id"] = where
        group = shape.get("group_id")
        key = (annotation["category_id"], group) if type(group) in (int, str) else (where,)
        groups.setdefault(key, []).append(annotation)
    for parts in groups.values():
        yield parts[0] if len(parts) == 1 else _joined(parts, width, height)


def shape_annotation(shape: Any, width: int, height: int) -> dict:
    """The annotation of a shape in an image; its `category_id` is the label.

    Raises:
        ShapeError: it is none, or not an object.
    """
    if not isinstance(shape, dict):
        raise ShapeError("shape", shape, "a shape is a dictionary with label, points and shape_type; correct it")
    label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(label, str) or not label:
        raise ShapeError("label", label, "the object has no class; write its name", "class-missing")
    if not isinstance(kind, str):
        raise ShapeError("shape_type", kind, "it is a text, such as polygon; correct it")
    if kind in _NOT_SHAPES or label in _NO_OBJECTS:
        field, value = ("label", label) if label in _NO_OBJECTS else ("shape_type", kind)
        raise ShapeError(field, value, "it is not an object and is not used", "shape-unused")
    points = flat_points(shape.get("points"))
    if points is None or not points:
        raise ShapeError("points", shape.get("points"), "points are pairs of numbers [[x, y], ...]; correct them")
    annotation = {"category_id": label, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    if kind == "rectangle":
        if len(points) < 4:
            raise ShapeError("points", shape["points"], "a rectangle has two corners; correct it")
        annotation["bbox"] = polygons_box([points])
    elif kind == "mask":
        annotation["segmentation"], annotation["bbox"] = _mask(shape.get("mask"), points, width, height)
    elif kind in ("circle", "polygon", "rotation", "oriented_rectangle"):
        polygon = _circle(points) if kind == "circle" else points
        annotation["segmentation"] = [polygon]
        annotation["bbox"] = polygons_box([polygon])
    else:
        advice = "known are polygon, rectangle, circle and mask; draw the object as one of them"
        raise ShapeError("shape_type", kind, advice, "shape-unused")
    return annotation


def _circle(points: list[float]) -> list[float]:
    if len(points) != 4:
        raise ShapeError("points", points, "a circle has two points, its centre and one on it; correct it")
    x, y, at_x, at_y = points
    radius = math.hypot(at_x - x, at_y - y)
    return ellipse(x, y, radius, radius)


def _mask(text: object, points: list[float], width: int, height: int) -> tuple[dict, list[float]]:
    """RLE of the image's size and the box of the pixels in it."""
    if len(points) != 4 or not all(math.isfinite(value) for value in points):
        raise ShapeError("points", points, "a mask has two points, its first and its last pixel; correct them")
    x, y, last_x, last_y = (round(value) for value in points)
    if not (0 <= x <= last_x < width and 0 <= y <= last_y < height):
        raise ShapeError("points", points, f"the mask lies outside the image of {width} × {height}; correct them")
    if width * height > MAX_IMAGE_PIXELS:
        raise ShapeError(
            "mask", text, f"the image of {width} × {height} pixels is too large for masks; correct its size"
        )
    size = last_x - x + 1, last_y - y + 1
    try:
        data = io.BytesIO(base64.b64decode(text if isinstance(text, str) else ""))
        with Image.open(data, formats=["PNG"]) as image:
            found = image.size  # from the header: nothing is decoded that does not fit
            pixels = np.asarray(image.convert("L")) != 0 if found == size else None
    except (OSError, ValueError, SyntaxError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ShapeError("mask", text, "it is not a PNG in base64; write the file again with LabelMe") from error
    if pixels is None:
        advice = f"it has {found[0]} × {found[1]} pixels, its points say {size[0]} × {size[1]}; correct one of them"
        raise ShapeError("mask", text, advice)
    if not pixels.any():
        raise ShapeError("mask", text, "no pixel of the mask is set; delete the shape", "mask-empty")
    whole = np.zeros((height, width), dtype=np.uint8, order="F")
    whole[y : last_y + 1, x : last_x + 1] = pixels
    columns, rows = np.flatnonzero(pixels.any(axis=0)), np.flatnonzero(pixels.any(axis=1))
    box = [x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1]
    return _text_rle(mask_util.encode(whole)), [float(value) for value in box]


def _joined(parts: list[dict], width: int, height: int) -> dict:
    """One object of several shapes: polygons together; with a mask among them, RLE. Plain boxes add to the box only."""
    first = dict(parts[0])
    first["bbox"] = boxes_union([part["bbox"] for part in parts])
    outlines = [part["segmentation"] for part in parts if "segmentation" in part]
    masks = [outline for outline in outlines if isinstance(outline, dict)]
    polygons = [polygon for outline in outlines if isinstance(outline, list) for polygon in outline]
    if masks:
        # pycocotools walks along the edges pixel by pixel: what lies far outside is left to the box, and to the check.
        far = 10 * max(width, height)
        drawable = [polygon for polygon in polygons if len(polygon) >= 6 and all(-far < v < far for v in polygon)]
        if drawable:
            masks += mask_util.frPyObjects(drawable, height, width)
        first["segmentation"] = _text_rle(mask_util.merge(masks))
    elif polygons:
        first["segmentation"] = polygons
    return first


def _text_rle(rle: dict) -> dict:
    counts = rle["counts"]
    size = [int(side) for side in rle["size"]]
    return {"size": size, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
