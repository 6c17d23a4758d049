"""Images so thin that a resize leaves a side of them without a pixel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from detectron2.data import transforms as T
from rcnnkit.errors import UserError

# The longer side per pixel of the shorter one. Large-scale jitter shrinks to 102 pixels by default, which leaves a side
# of half a pixel at 204; other resizes leave more.
THIN = 200


def resized(size: tuple[int, int], augmentations: Iterable[T.Augmentation | T.Transform]) -> tuple[int, int]:
    """The smallest (height, width) that the random resizes among the augmentations make of an image of this size."""
    height, width = size
    for one in augmentations:
        if not (height and width):
            break
        if isinstance(one, T.ResizeShortestEdge) and any(one.short_edge_length):
            shortest = min(edge for edge in one.short_edge_length if edge)  # 0 leaves an image as it is
            height, width = one.get_output_shape(height, width, shortest, one.max_size)
        elif isinstance(one, T.ResizeScale):
            factor = one.min_scale * min(one.target_height / height, one.target_width / width)
            height, width = round(height * factor), round(width * factor)
    return height, width


def too_thin(file_name: str, size: tuple[int, int], smallest: tuple[int, int] | None = None) -> UserError:
    """What to say of an image of `size` (height, width), of which `smallest` is left by a resize or another one."""
    left = "an augmentation can leave no pixel of it"
    if smallest is not None:
        left = f"a resize can make it {smallest[1]}x{smallest[0]}"
    return UserError(
        f"{file_name}: is {size[1]}x{size[0]} (width x height), too thin for the config: {left}; tile or pad it, leave "
        "it out of the data, or have larger images by INPUT.MIN_SIZE_*, INPUT.MAX_SIZE_*, "
        "RCNNKIT.AUGMENTATION.SCALE_JITTER or less of a crop"
    )


def check_thin_images(records: Iterable[dict], augmentations: Sequence[T.Augmentation | T.Transform]) -> None:
    """Refuse images of which a resize, drawn at its smallest, leaves nothing; those of unknown size are passed over.

    Raises:
        UserError: the first one, with its file, its size and what to do.
    """
    fine: set[tuple[int, int]] = set()
    for record in records:
        size = (record.get("height") or 0, record.get("width") or 0)
        if size in fine or not all(size):
            continue
        smallest = resized(size, augmentations)
        if not all(smallest):
            raise too_thin(record["file_name"], size, smallest)
        fine.add(size)
