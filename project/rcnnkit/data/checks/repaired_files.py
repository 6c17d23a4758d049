"""The repaired data set as COCO JSON files, with a list of every change."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from pycocotools import mask as run_lengths

from detectron2.structures import BoxMode
from rcnnkit.data.checks.masks import compressed
from rcnnkit.data.checks.places import Places, box_of
from rcnnkit.data.checks.repair import repaired_data
from rcnnkit.data.checks.run import Checked
from rcnnkit.data.labelled import LabelledData
from rcnnkit.errors import UserError
from rcnnkit.files import write_bytes


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was written."""

    files: list[Path]  # COCO JSON, one for each part
    list_file: Path  # text, one change a line
    changes: list[str]
    images: Path  # the folder to which the file names in the JSON are relative

    def describe(self) -> str:
        """Two lines: what was written, and how to look at it."""
        names = ", ".join(str(path) for path in self.files)
        target = self.files[0] if len(self.files) == 1 else self.files[0].parent
        return (
            f"{len(self.changes)} changes, listed in {self.list_file}; written: {names}\n"
            f"see what stays: rcnnkit data check {target} --images {self.images}"
        )


def write_repaired(checked: Checked, out: Path) -> Repaired:
    """Write what `repaired_data` makes of a data set; the data set itself is not touched.

    Args:
        out: a folder, in which a single part becomes `annotations.json` and each of several `<part>.json`; or, for a
            single part, the file. The changes are in `changes.txt` beside it, for a file in `<name>_changes.txt`.

    Raises:
        UserError: a place in the data set's own folder, or one file for several parts.
    """
    root = checked.tree.root
    if out.resolve().is_relative_to(root):
        raise UserError(f"--fix {out}: lies in the data set {root}, which is never modified; name another folder")
    is_file = out.suffix.lower() == ".json"
    if is_file and len(checked.parts) > 1:
        parts = ", ".join(str(split) for split in checked.parts)
        raise UserError(f"--fix {out}: one file cannot hold the parts {parts}; name a folder, or one part with --split")
    images = _folder_of_images(checked)
    files, contents = [], []
    changes = [f"not taken over: {problem}" for problem in checked.left_out]
    for split, data in checked.parts.items():
        repaired, lines = repaired_data(data, Places(checked.tree, data), checked.states)
        changes += lines
        name = "annotations" if len(checked.parts) == 1 else str(split).replace("/", "_")
        files.append(out if is_file else out / f"{name}.json")
        contents.append(json.dumps(coco_content(repaired, images), allow_nan=False).encode())
    for path, content in zip(files, contents, strict=True):
        write_bytes(path, content)
    list_file = out.with_name(f"{out.stem}_changes.txt") if is_file else out / "changes.txt"
    write_bytes(list_file, "".join(f"{' '.join(line.split())}\n" for line in changes).encode())
    return Repaired(files, list_file, changes, images)


def _folder_of_images(checked: Checked) -> Path:
    """The folder of images or the root, whichever holds all images."""
    names = [record["file_name"] for data in checked.parts.values() for record in data.records]
    for folder in (checked.tree.images_root, checked.tree.root):
        if folder is not None and all(Path(name).is_relative_to(folder) for name in names):
            return folder
    return Path(os.path.commonpath([os.path.dirname(name) for name in names]))


def coco_content(data: LabelledData, images: Path) -> dict:
    """The data set as COCO JSON (https://cocodataset.org/#format-data); file names are relative to `images`.

    Ids of images and objects stay where they are whole numbers; others are numbered from 1 on.
    `ignore` is an extension.
    """
    category_ids = data.category_ids or list(range(1, len(data.classes) + 1))
    categories = []
    for index, (category_id, name) in enumerate(zip(category_ids, data.classes, strict=True)):
        category = {"id": category_id, "name": name}
        if index in data.skeletons:
            skeleton = data.skeletons[index]
            category["keypoints"] = list(skeleton.names)
            category["skeleton"] = [[start + 1, end + 1] for start, end in skeleton.edges]
        categories.append(category)
    entries = [annotation for record in data.records for annotation in record["annotations"]]
    keep_images = all(type(record["image_id"]) is int for record in data.records)
    keep_objects = data.format == "coco" and all(type(entry.get("id")) is int for entry in entries)
    listed: list[dict] = []
    annotations: list[dict] = []
    for number, record in enumerate(data.records, 1):
        image_id = record["image_id"] if keep_images else number
        name = Path(record["file_name"]).relative_to(images).as_posix()
        size = {"height": record["height"], "width": record["width"]}
        listed.append({"id": image_id, "file_name": name, **size})
        for annotation in record["annotations"]:
            entry_id = annotation["id"] if keep_objects else len(annotations) + 1
            head = {"id": entry_id, "image_id": image_id, "category_id": category_ids[annotation["category_id"]]}
            annotations.append({**head, **_geometry(annotation, record)})
    return {"images": listed, "categories": categories, "annotations": annotations}


def _geometry(annotation: dict, record: dict) -> dict:
    x0, y0, x1, y1 = box_of(annotation)
    is_xywh = annotation.get("bbox_mode") == BoxMode.XYWH_ABS
    result = {"bbox": annotation["bbox"] if is_xywh else [x0, y0, x1 - x0, y1 - y0]}
    result["iscrowd"] = annotation.get("iscrowd", 0)
    area = annotation.get("area")
    if area is None or not math.isfinite(area):
        area = _mask_area(annotation.get("segmentation"), record)
    result["area"] = (x1 - x0) * (y1 - y0) if area is None else area
    if "segmentation" in annotation:
        result["segmentation"] = annotation["segmentation"]
    if annotation.get("ignore"):
        result["ignore"] = 1
    points = annotation.get("keypoints")
    if points is not None:
        moved = [value if index % 3 == 2 else value - 0.5 for index, value in enumerate(points)]
        result["keypoints"] = [max(value, 0) if points[i - i % 3 + 2] == 0 else value for i, value in enumerate(moved)]
        result["num_keypoints"] = sum(visible > 0 for visible in points[2::3])
    return result


def _mask_area(segmentation, record: dict) -> float | None:
    if isinstance(segmentation, dict):
        try:
            return float(run_lengths.area(compressed(segmentation)))
        except (KeyError, TypeError, ValueError):
            return None
    usable = [polygon for polygon in segmentation or () if len(polygon) % 2 == 0 and len(polygon) >= 6]
    if not usable:
        return None
    rasters = run_lengths.frPyObjects(usable, record["height"], record["width"])
    return float(run_lengths.area(run_lengths.merge(rasters)))
