"""`rcnnkit data info`: what a folder of labelled images holds, of whatever format it is."""

import argparse
import json
from collections import Counter
from pathlib import Path

from rcnnkit.cli.data_source import add_source, read_source, tell
from rcnnkit.data.label_counts import has_keypoints
from rcnnkit.data.labelled import LabelledData
from rcnnkit.data.naming import split_name
from rcnnkit.data.parts import Parts
from rcnnkit.files import write_bytes

_SHOWN = 20  # classes in the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the counts, of all classes")


def run(arguments: argparse.Namespace) -> int:
    """Print format, parts and counts."""
    found = read_source(arguments)
    print(f"{found.tree.annotation_file or found.tree.root}")
    print(f"format: {found.reader.name} ({found.reason})")
    for other in found.also:
        way = "--split" if other.startswith("labels ") else "--format"
        print(f"also seen, not used: {other}; {way} reads it")
    counts = {name or "all": counts_of(data) for name, data in found.parts.items()}
    print()
    _print_counts(counts)
    together = _together(found) if len(counts) > 1 else None
    if together is not None:
        print(f"together: {together['images']} images, {together['objects']} objects")
    print()
    _print_classes(counts)
    _print_keypoints(found)
    listed = {record["file_name"] for data in found.parts.values() for record in data.records}
    listed |= {str(file) for data in found.parts.values() for file in data.files}
    others = [] if arguments.split or split_name(arguments.path)[1] else found.tree.other_images(listed)
    if others:
        print(f"\n{len(others)} more images are in no annotation, such as {found.tree.relative(others[0])}")
    if len(found.problems):
        tell(found.problems, "\nwhat could not be read (rcnnkit data check tells all):")
    if arguments.json is not None:
        content = {"path": str(found.tree.root), "format": found.reader.name, "reason": found.reason, "parts": counts}
        content |= {} if together is None else {"together": together}
        write_bytes(arguments.json, json.dumps(content, indent=1).encode())
    return 0


def counts_of(data: LabelledData) -> dict:
    """Counts of one part: images, objects and what is labelled of them, objects of each class, sizes of images."""
    annotations = [annotation for record in data.records for annotation in record["annotations"]]
    masks = [annotation["segmentation"] for annotation in annotations if annotation.get("segmentation")]
    per_class = Counter(annotation["category_id"] for annotation in annotations)
    sizes = sorted((record["width"], record["height"]) for record in data.records)
    return {
        "images": len(data.records),
        "empty": sum(not record["annotations"] for record in data.records),
        "objects": len(annotations),
        "boxes": len(annotations),
        "polygons": sum(isinstance(mask, list) for mask in masks),
        "rle": sum(isinstance(mask, dict) for mask in masks),
        "keypoints": sum(map(has_keypoints, annotations)),
        "points": sum(v > 0 for annotation in annotations for v in (annotation.get("keypoints") or ())[2::3]),
        "crowd": sum(bool(annotation.get("iscrowd")) for annotation in annotations),
        "ignored": sum(bool(annotation.get("ignore")) for annotation in annotations),
        "classes": {name: per_class.get(index, 0) for index, name in enumerate(data.classes)},
        "sizes": _sizes(sizes),
    }


def _together(found: Parts) -> dict:
    """Images and objects of all parts, an image that is in several of them (as in trainval) once."""
    objects: dict[str, int] = {}
    for data in found.distinct().values():
        for record in data.records:
            objects.setdefault(record["file_name"], len(record["annotations"]))
    return {"images": len(objects), "objects": sum(objects.values())}


def _sizes(sizes: list[tuple[int, int]]) -> str:
    if not sizes:
        return "-"
    if sizes[0] == sizes[-1]:
        return f"{sizes[0][0]}x{sizes[0][1]}"
    widths, heights = [width for width, _ in sizes], [height for _, height in sizes]
    return f"{min(widths)}-{max(widths)} x {min(heights)}-{max(heights)} ({len(set(sizes))} sizes)"


def _print_counts(counts: dict[str, dict]) -> None:
    columns = ("images", "empty", "objects", "polygons", "rle", "keypoints", "crowd", "ignored", "sizes")
    titles = {"empty": "no object", "rle": "masks (RLE)", "keypoints": "with keypoints", "sizes": "width x height"}
    rows = [["part", *(titles.get(column, column) for column in columns)]]
    rows += [[name, *(str(found[column]) for column in columns)] for name, found in counts.items()]
    _print_table(rows)
    print("every object has a box; polygons and masks are counted by object")


def _print_classes(counts: dict[str, dict]) -> None:
    total: Counter = Counter()
    for found in counts.values():
        total.update(found["classes"])
    named = sorted(total, key=lambda name: -total[name])
    rows = [[f"class (of {len(total)})", *counts]]
    rows += [[name, *(str(found["classes"].get(name, "-")) for found in counts.values())] for name in named[:_SHOWN]]
    _print_table(rows)
    if len(named) > _SHOWN:
        print(f"... and {len(named) - _SHOWN} more classes; --json FILE writes all")


def _print_keypoints(found: Parts) -> None:
    told: dict[str, str] = {}
    for data in found.parts.values():
        for index, skeleton in data.skeletons.items():
            told.setdefault(data.classes[index], f"{len(skeleton.names)} keypoints: {', '.join(skeleton.names)}")
    by_text: dict[str, list[str]] = {}
    for name, text in told.items():
        by_text.setdefault(text, []).append(name)
    for text, names in by_text.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        print(f"\n{shown}: {text}")


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("  ".join(cells).rstrip())
