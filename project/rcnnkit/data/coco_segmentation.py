"""Whether a COCO `segmentation` can be used: polygons, or run lengths that fill their mask.

Format of run lengths: https://github.com/cocodataset/cocoapi, common/maskApi.h.
"""

import math

CORRECT_POLYGON = "write x, y, x, y, ... of at least three points"
CORRECT_RUNS = "write {'counts': ..., 'size': [height, width]} as pycocotools does"


def segmentation_problem(segmentation) -> str | None:
    """What is wrong with the `segmentation` of an annotation, and what to do; None where it can be used.

    Args:
        segmentation: a list of polygons [x, y, x, y, ...] (short ones pass: loaders drop them), or a dictionary of run
            lengths, as a list or as pycocotools' compressed text.
    """
    if isinstance(segmentation, list):
        return next(filter(None, map(_polygon_problem, segmentation)), None)
    if isinstance(segmentation, dict):
        return _runs_problem(segmentation)
    return f"is neither polygons nor run lengths; {CORRECT_POLYGON}"


def _polygon_problem(polygon) -> str | None:
    if not isinstance(polygon, list):
        return f"a polygon is not a list; {CORRECT_POLYGON}"
    try:
        finite = all(map(math.isfinite, polygon))
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        return f"a polygon has what is not a finite number; {CORRECT_POLYGON}"
    if len(polygon) % 2:
        return f"a polygon has {len(polygon)} numbers, which is odd; {CORRECT_POLYGON}"
    return None


def _runs_problem(runs: dict) -> str | None:
    size, counts = runs.get("size"), runs.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        return f"size is {size!r}, not two whole numbers above 0; {CORRECT_RUNS}"
    if isinstance(counts, str):
        try:
            counts = decoded_runs(counts)
        except ValueError as error:
            return f"{error}; {CORRECT_RUNS}"
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return f"counts are neither text nor whole numbers of at least 0; {CORRECT_RUNS}"
    if sum(counts) != size[0] * size[1]:
        return f"counts cover {sum(counts)} pixels of {size[0]}x{size[1]}; {CORRECT_RUNS}"
    return None


def decoded_runs(text: str) -> list[int]:
    """Run lengths of pycocotools' compressed text.

    Each number is a series of characters from "0" (48) on: five bits each, the lowest first, a sixth that says that
    more follow, and the sign in the last one's fifth bit. From the fourth number on it is the difference to the last
    but one.

    Raises:
        ValueError: another character, or an end within a number.
    """
    runs: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"counts have the character {character!r}")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number = shift = 0
    if shift:
        raise ValueError("counts are cut off")
    return runs
