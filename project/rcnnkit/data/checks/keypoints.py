"""Keypoints: their number, visibility and place, and the names, pairs and edges of the skeletons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from rcnnkit.data.checks.boxes import OUTSIDE_PIXELS
from rcnnkit.data.checks.places import Places
from rcnnkit.data.keypoints import flip_map, unpaired
from rcnnkit.data.labelled import ERROR, WARNING, LabelledData, Problem, Skeleton
from rcnnkit.errors import UserError

NONE_LABELLED = "keypoints-none-labelled"


def check_keypoints(data: LabelledData, places: Places) -> Iterator[Problem]:
    """Problems of the skeletons, then of the objects' keypoints: of each object the first that is found."""
    for index, skeleton in sorted(data.skeletons.items()):
        yield from _skeleton_problems(data.classes[index], skeleton, places)
    for record in data.records:
        for annotation in record["annotations"]:
            points = annotation.get("keypoints")
            if points is None:
                continue
            known = data.skeletons.get(annotation["category_id"])
            found = keypoint_problem(points, known, record.get("width"), record.get("height"))
            if found is not None:
                kind, value, advice, severity = found
                if kind == NONE_LABELLED and data.skeletons and known is None:
                    continue  # of a class without keypoints: zeros, so that all objects have as many
                yield places.of_object(kind, record, annotation, "keypoints", value, advice, severity)


def keypoint_problem(
    points, skeleton: Skeleton | None, width: int | None, height: int | None
) -> tuple[str, object, str, str] | None:
    """Kind, value, advice and severity of what is wrong with an object's keypoints; None where nothing is.

    Args:
        points: flat x, y, v; the centre of the first pixel at 0.5.
        skeleton: of its class; None: unknown.
        width, height: of the image; None: unknown.
    """
    try:
        finite = len(points) % 3 == 0 and all(map(math.isfinite, points))
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        return "keypoints-unreadable", points, "write three finite numbers x, y, visibility for each keypoint", ERROR
    triples = list(zip(points[::3], points[1::3], points[2::3]))
    if skeleton is not None and skeleton.names and len(triples) != len(skeleton.names):
        advice = f"the class has {len(skeleton.names)} keypoints; write each, with 0, 0, 0 where it is not labelled"
        return "keypoint-count", f"{len(triples)} keypoints", advice, ERROR
    for number, (x, y, visible) in enumerate(triples):
        name = skeleton.names[number] if skeleton is not None and skeleton.names else f"number {number + 1}"
        if visible not in (0, 1, 2):
            return (
                "keypoint-visibility",
                f"{name}: {visible}",
                "it is 0 (not labelled), 1 (hidden) or 2 (visible)",
                ERROR,
            )
        beyond = max(-x, -y, x - (width or math.inf), y - (height or math.inf))
        if visible and beyond > OUTSIDE_PIXELS:
            advice = f"the image is {width}x{height}; put it where it is seen, or write 0, 0, 0"
            return "keypoint-outside", f"{name}: {round(x, 1)}, {round(y, 1)}", advice, ERROR
    if triples and not any(visible for *_, visible in triples):
        advice = "no keypoint is labelled, so that only the box teaches anything; label them, or leave keypoints out"
        return NONE_LABELLED, f"{len(triples)} keypoints with visibility 0", advice, WARNING
    return None


def _skeleton_problems(class_name: str, skeleton: Skeleton, places: Places) -> Iterator[Problem]:
    where = f"class {class_name}"
    for name, count in Counter(skeleton.names).items():
        if count > 1:
            advice = f"{count} keypoints have this name; rename them"
            yield places.of_data_set("duplicate-keypoint-name", where, "keypoints", name, advice)
    for edge in skeleton.edges:
        if not all(0 <= end < len(skeleton.names) for end in edge) or edge[0] == edge[1]:
            advice = f"it connects keypoints that are not there or one with itself; there are {len(skeleton.names)}"
            yield places.of_data_set("skeleton-edge", where, "skeleton", list(edge), advice)
    try:
        pairs = flip_map(skeleton.names, skeleton.flip_pairs)
    except UserError as error:
        yield places.of_data_set("flip-pair", where, "flip_pairs", skeleton.flip_pairs, str(error))
        return
    paired = {name for pair in pairs for name in pair}
    for name in unpaired(skeleton.names):
        if name not in paired:
            advice = "the other side is not among the keypoints; in a mirrored image this one is on the wrong side"
            yield places.of_data_set("flip-pair-missing", where, "keypoints", name, advice, WARNING)
