"""What keeps a COCO annotation file from being read, in one line: its JSON, a missing list, a dangling reference."""

import json
from pathlib import Path

from rcnnkit.errors import UserError

REQUIRED = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ("id", "image_id")}


def check_coco_structure(name: str, path: Path) -> dict:
    """Parse the annotation file of the data set `name`; its three lists are there and their entries have ids.

    Returns:
        The file's content.

    Raises:
        UserError: the file is missing, truncated, not JSON or not COCO.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{name}: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
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
    return content


def check_coco_references(name: str, path: Path) -> dict:
    """Check the structure, and that every annotation belongs to a listed image and category.

    An annotation of no listed image would be dropped without a word by some loaders.

    Returns:
        The file's content.

    Raises:
        UserError: as `check_coco_structure`, or an annotation whose image or category is not listed.
    """
    content = check_coco_structure(name, path)
    known = {
        "image_id": {image["id"] for image in content["images"]},
        "category_id": {category["id"] for category in content["categories"]},
    }
    for annotation in content["annotations"]:
        for field, ids in known.items():
            if annotation.get(field) not in ids:
                value = annotation.get(field)
                raise UserError(
                    f"{name}: {path}: annotation {annotation['id']} has {field} {value}, which is not listed"
                )
    return content
