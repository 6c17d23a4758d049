"""Objects of mask files, as run lengths: one object from a file of its own, or many from a label image.

Run lengths (RLE) go down the columns, as in COCO (https://github.com/cocodataset/cocoapi, common/maskApi.h).
Legend: H×W mask, N objects, R runs of equal value in column order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from detectron2.structures import BoxMode
from rcnnkit.data.images import MAX_IMAGE_PIXELS, ImageError, opened

VOID = 255  # of indexed files: the border around objects that VOC leaves undecided


@dataclass(frozen=True, slots=True)
class Region:
    """One object's pixels: its value in the label image, and their run lengths."""

    value: int
    runs: dict


def object_mask(path: Path) -> dict | None:
    """The pixels of a file that holds one object, as RLE; None where it is empty.

    The object is what is brighter than half of the brightest value: 0 and 1, 0 and 255 and softened edges are alike.
    Of a colour file the brightest channel counts, alpha does not; of an indexed one every index but 0.

    Raises:
        ImageError: not an image.
    """
    values, is_indexed = _stored(path)
    if values.ndim == 3:
        values = values.max(axis=2)
    top = int(values.max(initial=0))
    if top <= 0:
        return None
    inside = values > (0 if is_indexed else top // 2)
    return _as_text(mask_util.encode(np.asfortranarray(inside, dtype=np.uint8)))


def label_regions(path: Path) -> tuple[tuple[int, int], list[Region]]:
    """(height, width) of a label image, and for each value in it but 0, in rising order, the pixels that have it.

    255 is no object in an indexed file (VOC's border); it is one in a grey file. Of a colour file each colour is a
    value, red × 65536 + green × 256 + blue.

    Raises:
        ImageError: not an image.
    """
    values, is_indexed = _label_values(path)
    height, width = values.shape
    flat = values.ravel(order="F")
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    ends = np.append(starts[1:], flat.size)
    of_run = flat[starts]
    order = np.argsort(of_run, kind="stable")
    found, first = np.unique(of_run[order], return_index=True)
    regions = []
    for value, runs in zip(found.tolist(), np.split(order, first[1:]), strict=True):
        if value == 0 or (is_indexed and value == VOID):
            continue
        # background up to a run, the run, ..., background up to the end
        edges = np.stack((starts[runs], ends[runs]), axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size if edges[-1] < flat.size else [])
        plain = {"size": [height, width], "counts": counts.tolist()}
        regions.append(Region(value, _as_text(mask_util.frPyObjects(plain, height, width))))
    return (height, width), regions


def majority_values(path: Path, regions: list[Region]) -> list[int]:
    """For each region the value that most of its pixels have in a second label image of the same size, 0 aside.

    This is how VOC's SegmentationClass says the class of an object of SegmentationObject. 0 where it says none.

    Raises:
        ImageError: not an image, or one of another size.
    """
    values, is_indexed = _label_values(path)
    classes = []
    for region in regions:
        if list(values.shape) != region.runs["size"]:
            raise ImageError(path, "is not as large as the image of the objects; export both again")
        inside = values[mask_util.decode(region.runs).astype(bool)]
        inside = inside[(inside != 0) & ~(is_indexed & (inside == VOID))]
        found, counts = np.unique(inside, return_counts=True)
        classes.append(int(found[counts.argmax()]) if len(found) else 0)
    return classes


def annotation(runs: dict, category: int, id: str | int, iscrowd: int = 0) -> dict:
    """The annotation of a mask; its box is the smallest around the pixels."""
    return {
        "category_id": category,
        "bbox": [float(number) for number in mask_util.toBbox(runs)],
        "bbox_mode": BoxMode.XYWH_ABS,
        "iscrowd": iscrowd,
        "segmentation": runs,
        "id": id,
    }


def _as_text(runs: dict) -> dict:
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def _stored(path: Path) -> tuple[np.ndarray, bool]:
    """(H, W), or (H, W, 3) of colours, as the file stores them without alpha; and whether they index a palette."""
    with opened(path, MAX_IMAGE_PIXELS) as image:
        image.load()
    mode = image.mode
    if mode == "F":
        raise ImageError(path, "has floating-point values; save it with 8 or 16 bits")
    if mode in ("LA", "PA"):
        image = image.getchannel(0)
    elif mode not in ("1", "L", "P", "I", "RGB") and not mode.startswith("I;16"):
        image = image.convert("RGB")
    array = np.asarray(image)
    return (array.astype(np.uint8) if mode == "1" else array), mode in ("P", "PA")


def _label_values(path: Path) -> tuple[np.ndarray, bool]:
    """(H, W) integers, and whether they are indices of a palette."""
    array, is_indexed = _stored(path)
    if array.ndim == 3:
        red, green, blue = (array[:, :, channel].astype(np.int32) for channel in range(3))
        array = red * 65536 + green * 256 + blue
    return array, is_indexed
