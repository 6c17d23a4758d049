"""Masks as images: one file per object, or one label image per picture.

Folders. Pictures lie below a folder `images` (or JPEGImages, leftImg8bit), their masks below a folder `masks` (or
SegmentationObject, gtFine) beside it. Three layouts are told apart by their files:

- one file per object, a folder per picture: `<any>/images/<picture>` alone there, and `<any>/masks/*.png`;
- one file per object, the masks sorted: `images/<picture>` and `masks/<stem of the picture>/*.png`;
- a label image per picture: `images/<picture>` and `masks/<same stem>.png` (or `<stem>_mask.png`, `<stem>_label.png`,
  Cityscapes' `<stem>_gtFine_instanceIds.png`), with equal folders below `images` and `masks`, such as `train`.

Classes. `classes.txt` (also labels.txt, label_map.txt, labelmap.txt as CVAT writes it) at the root lists them, one a
line: `name` (ids 1, 2, ... in order; a first line `background` is 0) or `id name`. Without the file there is one class,
"object".

Values of label images. 0 is background; 255 is, in an indexed (palette) image, a border that is left out.
- With at most one class each other value is one object.
- With several, a folder SegmentationClass beside SegmentationObject gives the class (that of most of an object's
  pixels; without a list of classes VOC's twenty). Otherwise, as in Cityscapes, a value is class id × 1000 + number of
  the object; a class id alone is a region of many objects (`iscrowd`), and a value below 1000 that is no class id is
  background.

A picture whose masks are not there at all is left out, with a warning: nobody said that it shows no object. An empty
folder of masks, or a label image of zeros, says so.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from detectron2.data.datasets.pascal_voc import CLASS_NAMES as VOC_CLASSES
from rcnnkit.data.formats.label_image import annotation, label_regions, majority_values, object_mask
from rcnnkit.data.formats.lookup import folder_split
from rcnnkit.data.images import ImageError, upright_size
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog
from rcnnkit.data.progress import shown
from rcnnkit.data.splits import role
from rcnnkit.data.tree import OutsideError, Tree
from rcnnkit.errors import UserError

IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "jpegimages", "leftimg8bit"})
MASK_FOLDERS = frozenset({"masks", "mask", "segmentationobject", "gtfine"})
CLASS_FILES = ("classes.txt", "labels.txt", "label_map.txt", "labelmap.txt")
ONE_CLASS = "object"
OBJECTS_PER_CLASS = 1000  # a value of Cityscapes' instanceIds is class × 1000 + object

_LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp"})
_SUFFIX = re.compile(r"_(leftImg8bit|gtFine_instanceIds|instanceIds|instances|masks?|labels?)$", re.IGNORECASE)
_OTHER_MASK = re.compile(r"_(labelIds|labelTrainIds|color)$", re.IGNORECASE)


@dataclass(slots=True)
class Picture:
    """An image and what belongs to it."""

    path: Path
    objects: list[Path]  # one object each
    labels: Path | None = None  # or one label image
    has_folder: bool = False  # the folder of its objects is there, perhaps empty


@dataclass(frozen=True, slots=True)
class Classes:
    """The names of the classes in order, and which of them an id in a label image means."""

    names: list[str]
    index: dict[int, int]

    @property
    def one(self) -> bool:
        """Whether there is nothing to tell apart."""
        return len(self.names) == 1


class MaskPngReader:
    """Reads masks that are images."""

    name = "masks"

    def recognise(self, tree: Tree) -> str | None:
        """A folder of images and one of masks beside it, with a mask that belongs to an image."""
        if tree.annotation_file is not None:
            return None
        pictures, _ = _pictures(tree)
        per_object = [picture for picture in pictures if picture.objects]
        labelled = [picture.labels for picture in pictures if picture.labels]
        if not per_object and not labelled:
            return None
        if len(per_object) >= len(labelled):
            return f"{len(per_object)} images have a folder of masks, such as {tree.relative(per_object[0].objects[0])}"
        return f"{len(labelled)} images have a label image, such as {tree.relative(labelled[0])}"

    def splits(self, tree: Tree) -> list[str]:
        """Folders that are called like a split (train, stage1_train); without them, ImageSets/Segmentation's lists."""
        pictures, _ = _pictures(tree)
        folders = {split for picture in pictures if (split := _folder_split(tree, picture.path))}
        return sorted(folders or _lists(tree))

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one split or all; files are read in parallel."""
        pictures, strays = _pictures(tree)
        if not pictures:
            raise UserError(f"{tree.root}: no folder of images with a folder of masks beside it; see docs/datasets.md")
        if split is not None:
            pictures, strays = _of_split(tree, pictures, strays, split)
        for stray in strays:
            advice = "no image belongs to this mask; add the image, or delete the mask"
            problems.add("image-missing", tree.relative(stray), advice)
        classes, file = _classes(tree, problems)
        same_stem = Counter(picture.path.stem for picture in pictures)
        records = []
        with ThreadPoolExecutor(max_workers=8) as pool:
            read = pool.map(lambda one: _read(tree, one, classes), pictures)
            for picture, (record, found) in zip(shown(pictures, "reading masks", " images"), read, strict=True):
                problems.problems.extend(found)
                if record is not None:
                    unique = same_stem[picture.path.stem] == 1
                    record["image_id"] = picture.path.stem if unique else tree.relative(picture.path)
                    records.append(record)
        masks = [mask for picture in pictures for mask in (*picture.objects, picture.labels) if mask is not None]
        return LabelledData(self.name, classes.names, records, ([file] if file else []) + masks)


def _pictures(tree: Tree) -> tuple[list[Picture], list[Path]]:
    """The images in folders of images, each with its masks; and the masks to which there is no image."""
    pictures: list[Picture] = []
    by_name: dict[tuple[Path, tuple[str, ...], str], Picture] = {}
    by_folder: dict[tuple[Path, tuple[str, ...]], list[Picture]] = defaultdict(list)
    masks: list[tuple[Path, tuple[str, ...], Path]] = []
    places: dict[Path, tuple[Path, tuple[str, ...], bool] | None] = {}
    for path in tree.images:
        folder = path.parent
        if folder not in places:
            places[folder] = _place(tree, folder)
        place = places[folder]
        if place is None:
            continue
        base, below, is_mask = place
        if is_mask:
            if path.suffix.lower() in _LOSSLESS and not _OTHER_MASK.search(path.stem):
                masks.append((base, below, path))
        else:
            picture = Picture(path, [])
            pictures.append(picture)
            by_name[base, below, _SUFFIX.sub("", path.stem)] = picture
            by_folder[base, below].append(picture)
    strays = []
    for base, below, path in masks:
        stem = _SUFFIX.sub("", path.stem)
        alone = by_folder.get((base, below), [])
        if (base, below, stem) in by_name:
            by_name[base, below, stem].labels = path
        elif not below and len(alone) == 1:
            alone[0].objects.append(path)
        elif below and (base, below[:-1], below[-1]) in by_name:
            by_name[base, below[:-1], below[-1]].objects.append(path)
        else:
            strays.append(path)
    for picture in pictures:
        folder = picture.path.parent.parent / "masks"
        picture.has_folder = bool(picture.objects) or (folder.is_dir() and not any(folder.iterdir()))
    return pictures, strays


def _place(tree: Tree, folder: Path) -> tuple[Path, tuple[str, ...], bool] | None:
    """The folder that holds the one of images or masks, the folders below that, and whether it is of masks."""
    root = tree.root if folder.is_relative_to(tree.root) else tree.images_root
    assert root is not None
    parts = folder.relative_to(root).parts
    for index in range(len(parts) - 1, -1, -1):
        name = parts[index].lower()
        if name in IMAGE_FOLDERS or name in MASK_FOLDERS:
            return root.joinpath(*parts[:index]), parts[index + 1 :], name in MASK_FOLDERS
    return None


def _folder_split(tree: Tree, path: Path) -> str | None:
    if not path.is_relative_to(tree.root):
        return None
    first = path.relative_to(tree.root).parts[0]
    return folder_split(tree, path) or (first if role(first) else None)


def _lists(tree: Tree) -> dict[str, Path]:
    return {path.stem: path for path in tree.with_suffix(".txt") if path.parts[-3:-1] == ("ImageSets", "Segmentation")}


def _of_split(tree: Tree, pictures: list[Picture], strays: list[Path], split: str) -> tuple[list[Picture], list[Path]]:
    lists = _lists(tree)
    if split in lists and not any(_folder_split(tree, picture.path) for picture in pictures):
        listed = set(lists[split].read_text(encoding="utf-8", errors="replace").split())
        return [picture for picture in pictures if picture.path.stem in listed], []
    return (
        [picture for picture in pictures if _folder_split(tree, picture.path) == split],
        [stray for stray in strays if _folder_split(tree, stray) == split],
    )


def _classes(tree: Tree, problems: ProblemLog) -> tuple[Classes, Path | None]:
    """The classes of the folder, and the file that lists them."""
    for name in CLASS_FILES:
        file = tree.root / name
        if file.is_file():
            listed = _listed(tree, file, problems)
            if listed:
                names = list(dict.fromkeys(listed.values()))
                return Classes(names, {id: names.index(name) for id, name in listed.items()}), file
    if any(path.parent.name == "SegmentationClass" for path in tree.images):
        return Classes(list(VOC_CLASSES), {index + 1: index for index in range(len(VOC_CLASSES))}), None
    return Classes([ONE_CLASS], {1: 0}), None


def _listed(tree: Tree, file: Path, problems: ProblemLog) -> dict[int, str]:
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    names = [line.split(":")[0].strip() if file.name == "labelmap.txt" else line.strip() for line in lines]
    names = [name for name in names if name and not name.startswith("#")]
    numbered = [re.fullmatch(r"(\d+)[\s,:]+(\S.*)", name) for name in names]
    if names and all(numbered):
        ids = {int(match[1]): match[2].strip() for match in numbered if match}
        return {id: name for id, name in ids.items() if id != 0}
    if names and names[0].strip("_").lower() == "background":
        del names[0]
    for name, count in Counter(names).items():
        if count > 1:
            advice = "the class is listed twice; give each its own name"
            problems.add("class-listed-twice", tree.relative(file), advice, field="class", value=name)
    return dict(enumerate(names, 1))


def _read(tree: Tree, picture: Picture, classes: Classes) -> tuple[dict | None, ProblemLog]:
    """The record of a picture but for its id; None where it is not labelled or cannot be read."""
    problems = ProblemLog()
    try:
        tree.inside(picture.path)
        width, height = upright_size(picture.path)
    except OutsideError as error:
        problems.add("image-outside", tree.relative(picture.path), str(error))
        return None, problems
    except ImageError as error:
        problems.add("image-unreadable", tree.relative(picture.path), error.reason)
        return None, problems
    if picture.labels is None and not picture.has_folder:
        advice = "the image has no masks and is left out; add a label image of zeros if it shows no object"
        problems.add("mask-missing", tree.relative(picture.path), advice, severity=WARNING)
        return None, problems
    annotations: list[dict] = []
    for path in picture.objects if picture.labels is None else [picture.labels]:
        try:
            tree.inside(path)
            if picture.labels is None:
                found = _object(tree, path, (height, width), problems)
            else:
                found = _labelled(tree, path, (height, width), classes, problems)
            annotations += found
        except OutsideError as error:
            problems.add("image-outside", tree.relative(path), str(error))
        except ImageError as error:
            problems.add("mask-unreadable", tree.relative(path), error.reason)
    record = {"file_name": str(picture.path), "height": height, "width": width, "image_id": ""}
    return {**record, "annotations": annotations}, problems


def _object(tree: Tree, path: Path, size: tuple[int, int], problems: ProblemLog) -> Iterator[dict]:
    runs = object_mask(path)
    if runs is None:
        advice = "the mask has no pixel; delete the file or draw the object"
        problems.add("mask-empty", tree.relative(path), advice)
    elif _same_size(tree, path, tuple(runs["size"]), size, problems):
        yield annotation(runs, 0, tree.relative(path))


def _labelled(tree: Tree, path: Path, size: tuple[int, int], classes: Classes, problems: ProblemLog) -> Iterator[dict]:
    found, regions = label_regions(path)
    if not _same_size(tree, path, found, size, problems):
        return
    if classes.one:
        for region in regions:
            yield annotation(region.runs, 0, region.value)
        return
    beside = path.parent.parent / "SegmentationClass" / path.name
    if beside.is_file():
        ids = majority_values(tree.inside(beside), regions)
        crowds = [0] * len(regions)
    else:
        ids = [region.value // OBJECTS_PER_CLASS or region.value for region in regions]
        crowds = [int(region.value < OBJECTS_PER_CLASS) for region in regions]
    for region, id, iscrowd in zip(regions, ids, crowds, strict=True):
        category = classes.index.get(id)
        if category is not None:
            yield annotation(region.runs, category, region.value, iscrowd)
        elif not iscrowd:
            advice = f"no class has the id {id}; list it in {CLASS_FILES[0]}, or correct the image"
            problems.add("class-unknown", tree.relative(path), advice, field="value", value=region.value)


def _same_size(tree: Tree, path: Path, found: tuple[int, ...], wanted: tuple[int, int], problems: ProblemLog) -> bool:
    if found == wanted:
        return True
    advice = f"the image is {wanted[1]}x{wanted[0]} (width x height, upright); draw the mask in that size"
    problems.add("mask-size", tree.relative(path), advice, field="size", value=f"{found[1]}x{found[0]}")
    return False
