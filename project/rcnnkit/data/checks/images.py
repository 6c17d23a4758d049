"""Image files: missing, damaged, of a kind that is not read, of another size than labelled, or in no annotation.

Of each file the header and the last bytes are read; pixels are decoded only where a JPEG or PNG lacks its end marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from rcnnkit.data.checks.places import Places
from rcnnkit.data.images import MAX_IMAGE_PIXELS, Header, ImageError, end_is_missing, header, read_image
from rcnnkit.data.labelled import WARNING, LabelledData, Problem
from rcnnkit.data.thin_images import THIN
from rcnnkit.data.tree import Tree

_THREADS = 8


@dataclass(frozen=True, slots=True)
class ImageState:
    """What is known of an image file: its header, or what is wrong with it."""

    header: Header | None
    kind: str = ""  # empty: the file can be used
    advice: str = ""


def image_states(files: Iterable[str]) -> dict[str, ImageState]:
    """The state of each image file, by name."""
    names = list(dict.fromkeys(files))
    with ThreadPoolExecutor(_THREADS) as pool:
        states = pool.map(image_state, names)
        shown = tqdm(states, total=len(names), desc="images", unit=" files", leave=False, disable=None, delay=1)
        return dict(zip(names, shown, strict=True))


def image_state(path: str) -> ImageState:
    """Read the header and the last bytes of an image file."""
    if not Path(path).is_file():
        return ImageState(None, "image-missing", "there is no such file; add it or take it out of the annotations")
    try:
        found = header(path)
    except ImageError as error:
        return ImageState(None, "image-unreadable", error.reason)
    if found.unsupported:
        return ImageState(found, "image-unsupported", found.unsupported)
    pixels = found.width * found.height
    if pixels > MAX_IMAGE_PIXELS:
        advice = f"it has {pixels} pixels, more than the {MAX_IMAGE_PIXELS} that are decoded; tile or shrink it"
        return ImageState(found, "image-too-large", advice)
    try:
        if end_is_missing(path, found.format):
            read_image(path)
    except (ImageError, OSError) as error:
        reason = error.reason if isinstance(error, ImageError) else str(error)
        return ImageState(found, "image-truncated", reason)
    return ImageState(found)


def check_images(data: LabelledData, places: Places, states: Mapping[str, ImageState]) -> Iterator[Problem]:
    """Problems of the image files that records name."""
    for record in data.records:
        state = states[record["file_name"]]
        if state.kind == "image-missing":
            yield places.of_record(state.kind, record, "file_name", places.image(record), state.advice)
        elif state.kind == "image-unsupported" and state.header is not None:
            mode = f"{state.header.mode}, {state.header.bits} bits"
            yield places.of_image(state.kind, record, "mode", mode, state.advice)
        elif state.kind:
            yield places.of_image(state.kind, record, None, None, state.advice)
        if state.header is not None:
            yield from _size_problem(record, state.header, places)
            yield from _thin_problem(record, state.header, places)


def _size_problem(record: dict, found: Header, places: Places) -> Iterator[Problem]:
    written, upright = (record.get("width"), record.get("height")), (found.width, found.height)
    if written in (upright, (None, None)):
        return
    value = f"{written[0]}x{written[1]}"
    if written == (found.stored_width, found.stored_height):
        advice = f"EXIF turns the picture to {upright[0]}x{upright[1]}, which is how it is shown and trained on; write "
        advice += "that size, and see whether the objects were drawn on the turned picture"
        yield places.of_record("image-size-exif", record, "width x height", value, advice)
        return
    advice = f"the file is {upright[0]}x{upright[1]}; correct the size, or put the picture back that was labelled"
    yield places.of_record("image-size", record, "width x height", value, advice)


def _thin_problem(record: dict, found: Header, places: Places) -> Iterator[Problem]:
    if max(found.width, found.height) > THIN * min(found.width, found.height):
        value = f"{found.width}x{found.height}"
        advice = f"a side more than {THIN} times the other may be resized to nothing, which ends a run; tile or pad it"
        yield places.of_image("image-thin", record, "width x height", value, advice, WARNING)


def check_labels_missing(data: LabelledData, places: Places) -> Iterator[Problem]:
    """Images without a file of labels, in the format where that means the same as an empty one: YOLO."""
    if data.format != "yolo":
        return
    labelled = {path.stem for path in data.files}
    advice = "it has no label file and counts as without objects; label it, or write an empty file if there are none"
    for record in data.records:
        if not record["annotations"] and Path(record["file_name"]).stem not in labelled:
            yield places.of_image("label-missing", record, None, None, advice, WARNING)


def check_unlisted(parts: Iterable[LabelledData], tree: Tree) -> Iterator[Problem]:
    """Image files of the folder that no record of any part names."""
    named: set[str] = set()
    for data in parts:
        named.update(record["file_name"] for record in data.records)
        named.update(map(str, data.files))
    advice = "no annotation names this image; add it (without objects, if there are none) or delete the file"
    for path in tree.other_images(named):
        file = tree.relative(path)
        yield Problem("image-unlisted", file, None, None, None, advice, WARNING, file)
