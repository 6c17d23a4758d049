"""Masks as run lengths, and what a mask says beside its box.

Format of run lengths: https://github.com/cocodataset/cocoapi, common/maskApi.h.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from pycocotools import mask as run_lengths

from rcnnkit.data.checks.places import Places, box_of
from rcnnkit.data.checks.polygons import list_kind
from rcnnkit.data.coco_segmentation import segmentation_problem
from rcnnkit.data.labelled import WARNING, LabelledData, Problem

# A side of the box may leave the mask's by this many pixels and this share of the box's longer side: some tools round
# outwards, count the last pixel, or draw box and mask by hand.
DISAGREE_PIXELS, DISAGREE_SHARE = 2.0, 0.05


def check_masks(data: LabelledData, places: Places) -> Iterator[Problem]:
    """Run lengths that are damaged, of another size than the image, or empty; masks that disagree with the box."""
    for record in data.records:
        for annotation in record["annotations"]:
            segmentation = annotation.get("segmentation")
            if segmentation is None:
                continue
            kind, value, advice = mask_problem(segmentation, record.get("width"), record.get("height"))
            if kind:
                yield places.of_object(kind, record, annotation, "segmentation", value, advice)
                continue
            extent, box = mask_extent(segmentation), box_of(annotation)
            if extent is not None and disagrees(box, extent):
                advice = f"the mask reaches over {[round(float(side), 1) for side in extent]}, x0 y0 x1 y1; "
                advice += "draw the box around the mask, or delete the one that is wrong"
                yield places.of_object("mask-box-disagree", record, annotation, "bbox", annotation["bbox"], advice)


def mask_problem(segmentation, width: int | None, height: int | None) -> tuple[str, object, str]:
    """Kind, value and advice for what is wrong with a segmentation as a whole; an empty kind where nothing is.

    Single polygons are judged by `check_polygons`.
    """
    if isinstance(segmentation, list):
        if not segmentation:
            return "mask-empty", segmentation, "it has no polygon; draw the mask, or leave the field out"
        return "", None, ""
    problem = segmentation_problem(segmentation)
    if problem is not None:
        return "mask-unreadable", segmentation, problem
    size = list(segmentation["size"])
    if width and height and size != [height, width]:
        advice = f"the image is {width}x{height}, so size must be [{height}, {width}]; write the mask of this image"
        return "rle-size", size, advice
    if not run_lengths.area(compressed(segmentation)):
        return "mask-empty", segmentation, "no pixel is set; draw the mask, or delete the object"
    return "", None, ""


def compressed(segmentation: dict) -> dict:
    """Run lengths as pycocotools takes them, from its text or a list of numbers."""
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return run_lengths.frPyObjects(segmentation, *segmentation["size"])
    return segmentation


def mask_extent(segmentation) -> tuple[float, float, float, float] | None:
    """The box around a mask that `mask_problem` finds no fault with, absolute pixels XYXY.

    None where it has no pixel, or no polygon that can be drawn.
    """
    if isinstance(segmentation, dict):
        x0, y0, width, height = run_lengths.toBbox(compressed(segmentation)).tolist()
        return (x0, y0, x0 + width, y0 + height) if width * height else None
    usable = [polygon for polygon in segmentation if not list_kind(polygon)]
    if not usable:
        return None
    x = [value for polygon in usable for value in polygon[::2]]
    y = [value for polygon in usable for value in polygon[1::2]]
    return min(x), min(y), max(x), max(y)


def disagrees(box: Sequence[float], extent: Sequence[float]) -> bool:
    """Whether a box is not the one around a mask, whose extent is XYXY as well.

    A box without area or with impossible numbers is judged elsewhere.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    if not all(map(math.isfinite, box)) or width <= 0 or height <= 0:
        return False
    apart = max(abs(side - other) for side, other in zip(box, extent, strict=True))
    return apart > DISAGREE_PIXELS + DISAGREE_SHARE * max(width, height)


def check_overlaps(data: LabelledData, places: Places) -> Iterator[Problem]:
    """Pixels that belong to two objects, where each object was painted as a mask of its own (format masks)."""
    if data.format != "masks":
        return
    for record in data.records:
        masks = [
            (annotation, compressed(annotation["segmentation"]))
            for annotation in record["annotations"]
            if not mask_problem(annotation.get("segmentation") or [], None, None)[0]
            and isinstance(annotation["segmentation"], dict)
            and not annotation.get("iscrowd")
        ]
        if len(masks) < 2 or len({tuple(mask["size"]) for _, mask in masks}) > 1:
            continue
        for first, second in _overlapping([mask for _, mask in masks]):
            pixels = int(run_lengths.area(run_lengths.merge([masks[first][1], masks[second][1]], intersect=True)))
            advice = "pixels belong to both; give each pixel to one object"
            value = f"{pixels} pixels shared with {masks[second][0].get('id', f'object {second + 1}')}"
            yield places.of_object("mask-overlap", record, masks[first][0], "segmentation", value, advice, WARNING)


def _overlapping(masks: list[dict]) -> list[tuple[int, int]]:
    shared = np.triu(run_lengths.iou(masks, masks, [0] * len(masks)), 1)
    return [(int(first), int(second)) for first, second in zip(*np.nonzero(shared))]
