"""Boxes that are not boxes, have no area, or leave their image.

Array letters: N objects; boxes are absolute pixels XYXY.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rcnnkit.data.checks.places import Places, objects_of
from rcnnkit.data.labelled import LabelledData, Problem

OUTSIDE_PIXELS = (
    1.0  # how far a box may pass the border: dialects that count pixels from 1 or inclusively differ by one
)

ADVICE = {
    "box-not-finite": "write four finite numbers, or delete the object",
    "box-negative": "its second corner lies before the first; exchange the corners",
    "box-empty": "it has no area and nothing is learnt from it; draw it anew or delete it",
    "box-outside": "draw it within the image, and check that width and height are those of this image",
}


def check_boxes(data: LabelledData, places: Places) -> Iterator[Problem]:
    """Problems of the boxes: at most one for each."""
    objects = objects_of(data)
    kinds = box_kinds(objects.boxes, objects.sizes)
    for row in np.flatnonzero(kinds != ""):
        record, annotation, kind = objects.records[row], objects.annotations[row], str(kinds[row])
        advice = ADVICE[kind]
        if kind == "box-outside":
            advice = f"the image is {record['width']}x{record['height']}; {advice}"
        yield places.of_object(kind, record, annotation, "bbox", annotation.get("bbox"), advice)


def box_kinds(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """What is wrong with each box.

    Args:
        boxes: (N, 4) XYXY.
        sizes: (N, 2) width and height of the image of each; NaN: unknown.

    Returns:
        (N,) str: a key of `ADVICE`, or empty.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        side = boxes[:, 2:] - boxes[:, :2]
        beyond = np.maximum(-boxes, np.concatenate([boxes[:, :2] - sizes, boxes[:, 2:] - sizes], 1)).max(1, initial=0)
    return np.select(
        [~np.isfinite(boxes).all(1), (side < 0).any(1), (side == 0).any(1), beyond > OUTSIDE_PIXELS],
        ["box-not-finite", "box-negative", "box-empty", "box-outside"],
        "",
    )
