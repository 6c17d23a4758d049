"""COCO JSON (https://cocodataset.org/#format-data), as published, and as Roboflow, CVAT and others write it."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pycocotools.mask as mask_util

from detectron2.structures import BoxMode
from rcnnkit.data import splits
from rcnnkit.data.coco_check import is_id, parse_json
from rcnnkit.data.coco_segmentation import segmentation_problem
from rcnnkit.data.formats.coco_files import ImageFinder, annotation_files, named_files
from rcnnkit.data.formats.lookup import picture_size
from rcnnkit.data.labelled import LabelledData, ProblemLog, Skeleton
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import OutsideError, Tree
from rcnnkit.errors import UserError

ROBOFLOW_FILE = "_annotations.coco.json"
_HALF_PIXEL = 0.5  # COCO's keypoints are indices of pixels, whose centres lie half a pixel on
_LISTS = ("images", "categories", "annotations")


class CocoReader:
    """Reads COCO JSON files: polygons, compressed and uncompressed run lengths, crowds, keypoints.

    Parts of a folder are its files: `instances_train2017.json` is the part `train2017`, or `instances_train2017` where
    another file labels the same part; `train/_annotations.coco.json` is `train`. One file that does not say that it is
    a part is the whole.
    """

    name = "coco"

    def recognise(self, tree: Tree) -> str | None:
        files = annotation_files(tree)
        if not files:
            return None
        more = f" and {len(files) - 1} more files have" if len(files) > 1 else " has"
        return f"{tree.relative(files[0])}{more} COCO's lists of images, categories and annotations"

    def splits(self, tree: Tree) -> list[str]:
        names = list(named_files(tree)) if tree.annotation_file is None else []
        return names if len(names) > 1 or splits.is_divided(names) else []

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        files = named_files(tree) or {"": tree.annotation_file or tree.root}
        if split is not None:
            files = {split: files[split]}
        elif splits.is_divided(list(files)):
            taken = [splits.preferred(names) for names in splits.labellings(list(files)).values()]
            files = {name: files[name] for name in taken}
        else:
            taken_name = splits.preferred(list(files))
            files = {taken_name: files[taken_name]}
        with _no_search_for_cycles():
            parts = [_File(tree, path, part, problems).read() for part, path in files.items()]
        return parts[0] if len(parts) == 1 else _united(list(files), parts)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Millions of lists and dictionaries without cycles are made; Python's search for cycles doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(slots=True)
class _File:
    """Reads one file. What goes into a record is checked in one go; only what fails is looked at field by field."""

    tree: Tree
    path: Path
    part: str
    problems: ProblemLog
    sizes_are_there: bool = True
    ignored: bool = False
    order: dict[int | str, int] = field(default_factory=dict)  # category id → class index
    left_out: set[int | str] = field(default_factory=set)  # ids of images that are listed and cannot be used

    def read(self) -> LabelledData:
        known = len(self.problems)
        content = self._content()
        categories = self._categories(content)
        self.order = {category["id"]: index for index, category in enumerate(categories)}
        records = self._images(content["images"])
        self._annotations(content["annotations"], records)
        values = list(records.values())
        if len({type(image_id) for image_id in records}) == 1:
            values.sort(key=lambda record: record["image_id"])
        whole = len(self.problems) == known and self.sizes_are_there and not self.ignored
        return LabelledData(
            format=CocoReader.name,
            classes=[category["name"] for category in categories],
            records=values,
            files=[self.path],
            skeletons=self._skeletons(categories),
            category_ids=[category["id"] for category in categories],
            is_coco_file=whole and len(categories) == len(content["categories"]),
        )

    def _content(self) -> dict:
        try:
            content = parse_json(self.path.read_bytes())
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.path} is truncated or not JSON ({error}); write the file again") from error
        for key in _LISTS:
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                raise UserError(
                    f"{self.path} is not COCO: it has no list {key!r}; see datasets/README.md for the format"
                )
        return content

    def _problem(self, kind: str, entry: str, advice: str, key: str | None = None, value: object = None) -> None:
        self.problems.add(kind, self.tree.relative(self.path), advice, id=entry, field=key, value=value)

    def _has(self, entries: list, position: int, what: str, keys: tuple[str, ...]) -> bool:
        """Whether an entry of a list is an object with an id and the fields; otherwise it is a problem."""
        entry, place = entries[position], f"{what} number {position + 1}"
        if not isinstance(entry, dict):
            self._problem("entry-unreadable", place, "it must be an object with fields", what, entry)
            return False
        for key in ("id", *keys):
            if key not in entry:
                name = f"{what} {entry['id']}" if "id" in entry else place
                self._problem("field-missing", name, f"add the field {key!r}")
                return False
        if not is_id(entry["id"]):
            self._problem("id-unreadable", place, "ids are whole numbers or text; correct it", "id", entry["id"])
            return False
        return True

    def _categories(self, content: dict) -> list[dict]:
        """The usable categories in the order of their ids."""
        entries, found = content["categories"], {}
        for position, category in enumerate(entries):
            if not self._has(entries, position, "category", ("name",)):
                continue
            place = f"category {category['id']}"
            if not isinstance(category["name"], str):
                self._problem("class-unreadable", place, "it must be text", "name", category["name"])
            elif category["id"] in found:
                self._problem(
                    "duplicate-category-id", place, "two categories have this id; renumber one", "id", category["id"]
                )
            else:
                found[category["id"]] = category
        ordered = sorted(found.values(), key=lambda category: (isinstance(category["id"], str), category["id"]))
        if self.path.name == ROBOFLOW_FILE and len(ordered) > 1 and _is_group(ordered[0], ordered[1:]):
            used = {
                a.get("category_id")
                for a in content["annotations"]
                if isinstance(a, dict) and _hashable(a.get("category_id"))
            }
            if ordered[0]["id"] not in used:
                return ordered[1:]
        return ordered

    def _skeletons(self, categories: list[dict]) -> dict[int, Skeleton]:
        found = {}
        for index, category in enumerate(categories):
            names, edges = category.get("keypoints"), category.get("skeleton") or []
            if not names:
                continue
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                advice = "it must be a list of names"
                self._problem("keypoints-unreadable", f"category {category['id']}", advice, "keypoints", names)
                continue
            usable = [edge for edge in edges if _is_edge(edge, len(names))] if isinstance(edges, list) else []
            if not isinstance(edges, list) or len(usable) < len(edges):
                advice = f"it must be pairs of numbers from 1 to {len(names)}"
                self._problem("skeleton-unreadable", f"category {category['id']}", advice, "skeleton", edges)
            found[index] = Skeleton(tuple(names), tuple((a - 1, b - 1) for a, b in usable))
        return found

    def _images(self, entries: list) -> dict[int | str, dict]:
        finder = ImageFinder(self.tree, self.path, self.part)
        records: dict[int | str, dict] = {}
        for position, image in enumerate(entries):
            if not self._has(entries, position, "image", ("file_name",)):
                continue
            image_id, name = image["id"], image["file_name"]
            place = f"image {image_id}"
            if image_id in records:
                self._problem("duplicate-image-id", place, "two images have this id; renumber one", "id", image_id)
                continue
            self.left_out.add(image_id)
            if type(name) is not str or not name:
                advice = "it must be text, the path of its image file"
                self._problem("image-missing", place, advice, "file_name", name)
                continue
            try:
                found = finder.find(name)
            except OutsideError as error:
                self._problem("image-outside", place, str(error), "file_name", name)
                continue
            if found is None:
                advice = "the file is missing; put it there or correct file_name"
                self._problem("image-missing", place, advice, "file_name", name)
                continue
            size = self._size(image, place, found)
            if size is not None:
                self.left_out.discard(image_id)
                records[image_id] = {
                    "file_name": found, "height": size[1], "width": size[0], "image_id": image_id, "annotations": [],
                }  # fmt: skip
        return records

    def _size(self, image: dict, place: str, found: str) -> tuple[int, int] | None:
        width, height = image.get("width"), image.get("height")
        if type(width) is int and type(height) is int and width > 0 and height > 0:
            return width, height
        for key, value in (("width", width), ("height", height)):
            if value is not None and (type(value) is not int or value < 1):
                advice = "it must be a whole number of pixels above 0"
                self._problem("size-unreadable", place, advice, key, value)
        self.sizes_are_there = False
        return picture_size(self.tree, Path(found), self.problems)

    def _annotations(self, entries: list, records: dict[int | str, dict]) -> None:
        mode, order = BoxMode.XYWH_ABS, self.order
        id_kinds = {type(image_id) for image_id in records}
        ids = []
        for position, entry in enumerate(shown(entries, "reading annotations", " objects")):
            try:
                image_id, box, name = entry["image_id"], entry["bbox"], entry["id"]
                category = order[entry["category_id"]]
                kept = {
                    "id": name,
                    "category_id": category,
                    "bbox": box,
                    "bbox_mode": mode,
                    "iscrowd": entry.get("iscrowd", 0),
                }
                sum(box)  # raises where anything is not a number
                if (
                    len(box) != 4
                    or type(box) is not list
                    or type(name) not in (int, str)
                    or type(image_id) not in id_kinds
                ):
                    raise TypeError
                annotations = records[image_id]["annotations"]
            except (KeyError, TypeError, AttributeError):
                self._explain(entries, position, records)
                continue
            ids.append(name)
            if kept["iscrowd"] not in (0, 1):
                self._problem("crowd-unreadable", f"annotation {name}", "it must be 0 or 1", "iscrowd", kept["iscrowd"])
                kept["iscrowd"] = 0
            if len(entry) > 4:
                self._add_optional(entry, kept)
            annotations.append(kept)
        if len(set(ids)) < len(ids):
            for name, count in Counter(ids).items():
                if count > 1:
                    advice = f"{count} annotations have this id; renumber them"
                    self._problem("duplicate-annotation-id", f"annotation {name}", advice, "id", name)

    def _add_optional(self, entry: dict, kept: dict) -> None:
        """Put the mask, keypoints, area and ignore flag of an annotation into its record."""
        segmentation = entry.get("segmentation")
        if segmentation:
            usable = self._segmentation(segmentation, kept["id"])
            if usable is not None:
                kept["segmentation"] = usable
        keypoints = entry.get("keypoints")
        if keypoints:
            self._add_keypoints(keypoints, kept)
        area = entry.get("area")
        if type(area) in (float, int):
            kept["area"] = area
        if entry.get("ignore"):
            self.ignored = True
            kept["ignore"] = 1

    def _segmentation(self, segmentation, name: int | str) -> list | dict | None:
        try:
            if type(segmentation) is list:
                for polygon in segmentation:
                    sum(polygon)  # raises where anything is not a number
                return segmentation
        except TypeError:
            pass
        problem = segmentation_problem(segmentation)
        if problem is not None:
            self._problem("mask-unreadable", f"annotation {name}", problem, "segmentation", segmentation)
            return None
        if type(segmentation["counts"]) is list:
            coded = mask_util.frPyObjects(segmentation, *segmentation["size"])
            return {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")}
        return segmentation

    def _add_keypoints(self, keypoints, kept: dict) -> None:
        try:
            sum(keypoints)
            if type(keypoints) is not list or len(keypoints) % 3:
                raise TypeError
        except TypeError:
            advice = "it must be x, y, visibility of each point"
            self._problem("keypoints-unreadable", f"annotation {kept['id']}", advice, "keypoints", keypoints)
            return
        moved = [value + _HALF_PIXEL for value in keypoints]
        moved[2::3] = keypoints[2::3]
        kept["keypoints"] = moved

    def _explain(self, entries: list, position: int, records: dict[int | str, dict]) -> None:
        """Say why an annotation has no place in a record."""
        if not self._has(entries, position, "annotation", ("image_id", "category_id", "bbox")):
            return
        entry = entries[position]
        place = f"annotation {entry['id']}"
        if is_id(entry["image_id"]) and entry["image_id"] in self.left_out:
            return  # the image is a problem already
        for kind, key, known in (
            ("image-unknown", "image_id", records),
            ("class-unknown", "category_id", self.order),
        ):
            if not is_id(entry[key]) or entry[key] not in known:
                self._problem(
                    kind, place, f"it is not listed, or cannot be used; list it or correct {key}", key, entry[key]
                )
                return
        advice = "it must be four numbers [x, y, width, height]"
        self._problem("box-unreadable", place, advice, "bbox", entry["bbox"])


def _is_group(first: dict, others: list[dict]) -> bool:
    """Whether this is the group that Roboflow lists before the classes in it, as a class that nothing belongs to."""
    return first.get("supercategory") == "none" and all(other.get("supercategory") == first["name"] for other in others)


def _is_edge(edge, count: int) -> bool:
    return isinstance(edge, list) and len(edge) == 2 and all(type(end) is int and 1 <= end <= count for end in edge)


def _hashable(value) -> bool:
    return isinstance(value, int | str)


def _united(names: list[str], parts: list[LabelledData]) -> LabelledData:
    """Several files as one data set: classes by name; where files give the same image id, the part's name is added."""
    classes = list(dict.fromkeys(name for part in parts for name in part.classes))
    index = {name: position for position, name in enumerate(classes)}
    counts = Counter(record["image_id"] for part in parts for record in part.records)
    clash = any(count > 1 for count in counts.values())
    records, skeletons = [], {}
    for split, part in zip(names, parts, strict=True):
        places = [index[name] for name in part.classes]
        skeletons.update({places[own]: skeleton for own, skeleton in part.skeletons.items()})
        for record in part.records:
            if clash:
                record["image_id"] = f"{split}/{record['image_id']}"
            for annotation in record["annotations"]:
                annotation["category_id"] = places[annotation["category_id"]]
            records.append(record)
    return LabelledData(CocoReader.name, classes, records, [file for part in parts for file in part.files], skeletons)
