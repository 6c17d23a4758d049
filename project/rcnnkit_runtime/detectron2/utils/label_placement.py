"""Where to write the label of an object so that it hides neither the object nor other labels."""

from __future__ import annotations

from collections.abc import Sequence

Rectangle = tuple[float, float, float, float]


def place_label(
    box: Sequence[float],
    label_size: tuple[float, float],
    image_size: tuple[float, float],
    taken: Sequence[Rectangle],
    avoid_inside: bool = False,
) -> tuple[float, float]:
    """Choose the upper left corner of a label.

    Candidates in order: inside the box at its upper edge (if the box is three lines high), above it, below it, beside
    it. The first that overlaps no other label is taken, else the one that overlaps least.

    Args:
        box: XYXY, of the object.
        label_size: width and height of the label.
        image_size: width and height of the image, in which the label stays.
        taken: XYXY rectangles of the labels so far.
        avoid_inside: never inside the box.

    Returns:
        (x, y).
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    width, height = label_size
    candidates = [(x0, y0 - height), (x0, y1), (x1, y0), (x0 - width, y0)]
    if not avoid_inside and y1 - y0 >= 3 * height:
        candidates = [(x0, y0), candidates[0], (x0, y1 - height), (x0, y0 + height), *candidates[1:]]
    best, best_cost = (0.0, 0.0), float("inf")
    for x, y in candidates:
        inside_x = max(min(x, image_size[0] - width), 0.0)
        inside_y = max(min(y, image_size[1] - height), 0.0)
        rectangle = (inside_x, inside_y, inside_x + width, inside_y + height)
        cost = sum(_overlap(rectangle, other) for other in taken)
        if y != inside_y:
            cost += _overlap(rectangle, (x0, y0, x1, y1)) * 0.1  # pushed back into the image, onto the object
        if cost < best_cost:
            best, best_cost = (inside_x, inside_y), cost
        if cost == 0:
            break
    return best


def _overlap(a: Rectangle, b: Rectangle) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
