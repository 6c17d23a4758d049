"""What keeps a COCO annotation file from being used, in one line: its JSON, a missing list, a field, a dangling id."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import orjson

from rcnnkit.data.coco_segmentation import segmentation_problem
from rcnnkit.errors import UserError

REQUIRED = {
    "images": ("id", "file_name"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}
logger = logging.getLogger(__name__)


def parse_json(text: bytes):
    """Parse JSON in a third of the standard library's time; what is not quite JSON, as NaN, is left to the library.

    Raises:
        ValueError, RecursionError: not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


def check_coco_structure(name: str, path: Path) -> dict:
    """Parse the annotation file of the data set `name`; its three lists are there and their entries have ids.

    Returns:
        The file's content.

    Raises:
        UserError: the file is missing, truncated, not JSON or not COCO, it lists no image, or an id is not a number or
            text of its own.
    """
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{name}: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: {path} is truncated or not JSON ({error}); write the file again") from error
    for key, fields in REQUIRED.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(
                f"{name}: {path} is not COCO: it has no list {key!r}; see datasets/README.md for the format"
            )
        for position, entry in enumerate(content[key]):
            absent = [field for field in fields if not isinstance(entry, dict) or field not in entry]
            if absent:
                raise UserError(f"{name}: {path}: {key}[{position}] has no field {absent[0]!r}: {str(entry)[:120]}")
        _check_ids(f"{name}: {path}: {key}", content[key])
    if not content["images"]:
        raise UserError(f"{name}: {path}: 'images' is empty; list at least one image")
    return content


def check_coco(name: str, path: Path) -> dict:
    """Check the structure, each field that training reads, and that annotations belong to listed images and categories.

    Polygons of fewer than three points are left to the loader, which drops them. Boxes of no width or height occur in
    real data: they are told in a warning.

    Returns:
        The file's content.

    Raises:
        UserError: as `check_coco_structure`; a field whose value cannot be used; or an annotation whose image or
            category is not listed, which some loaders would drop without a word.
    """
    content = check_coco_structure(name, path)
    for key, problem in (("images", _image_problem), ("categories", _category_problem)):
        _check_entries(name, path, key, content[key], problem)
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    flat = []

    def annotation_problem(annotation: dict) -> str | None:
        for field, ids in (("image_id", images), ("category_id", categories)):
            if not is_id(annotation[field]) or annotation[field] not in ids:
                return f"has {field} {_shown(annotation[field])}, which is not listed; list it or correct {field}"
        problem = _box_problem(annotation["bbox"])
        if problem is None and not (annotation["bbox"][2] and annotation["bbox"][3]):
            flat.append(annotation["id"])
        return problem or _mask_problem(annotation)

    _check_entries(name, path, "annotations", content["annotations"], annotation_problem)
    if flat:
        logger.warning(
            "%s: %s: %d boxes have no width or no height (annotation %s first); nothing is learnt from them",
            *(name, path, len(flat), flat[0]),
        )
    return content


def _check_entries(
    name: str, path: Path, key: str, entries: list[dict], problem_of: Callable[[dict], str | None]
) -> None:
    kind = {"images": "image", "categories": "category", "annotations": "annotation"}[key]
    for entry in entries:
        problem = problem_of(entry)
        if problem:
            raise UserError(f"{name}: {path}: {kind} {entry['id']} {problem}")


def _check_ids(where: str, entries: list[dict]) -> None:
    """Ids are all whole numbers or all text, and no two are the same."""
    seen: dict[int | str, int] = {}
    for position, entry in enumerate(entries):
        value = entry["id"]
        if not is_id(value) or type(value) is not type(entries[0]["id"]):
            raise UserError(
                f"{where}[{position}] has id {_shown(value)}; ids must be all whole numbers or all text, correct it"
            )
        if value in seen:
            raise UserError(f"{where}[{seen[value]}] and [{position}] have the same id {_shown(value)}; renumber one")
        seen[value] = position


def _image_problem(image: dict) -> str | None:
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        return f"has file_name {_shown(image['file_name'])}; it must be text, the path of its image file"
    for field in ("height", "width"):
        value = image.get(field, 1)
        if type(value) is not int or value < 1:
            return f"has {field} {_shown(value)}; it must be a whole number of pixels above 0"
    return None


def _category_problem(category: dict) -> str | None:
    if not isinstance(category["name"], str):
        return f"has name {_shown(category['name'])}; it must be text"
    return None


def _box_problem(box) -> str | None:
    advice = "it must be four finite numbers [x, y, width, height] with width and height of at least 0"
    try:
        fine = isinstance(box, list) and len(box) == 4 and all(map(math.isfinite, box)) and min(box[2:]) >= 0
    except (TypeError, OverflowError):
        fine = False
    return None if fine else f"has bbox {_shown(box)}; {advice}"


def _mask_problem(annotation: dict) -> str | None:
    if annotation.get("iscrowd", 0) not in (0, 1):
        return f"has iscrowd {_shown(annotation['iscrowd'])}; it must be 0 or 1"
    segmentation = annotation.get("segmentation")
    problem = None if segmentation is None else segmentation_problem(segmentation)
    return f"has segmentation {_shown(segmentation)}: {problem}" if problem else None


def is_id(value) -> bool:
    return type(value) in (int, str)


def _shown(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
