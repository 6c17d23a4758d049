"""The JSON files of VIA's versions, brought to one form: images with regions, a region with a shape and attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from rcnnkit.data.labelled import ProblemLog

# Version 3 stores a shape as a list: its number, then its coordinates.
_SHAPES_3 = {1: "point", 2: "rect", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline", 7: "polygon"}
_COORDINATES_3 = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
_EXTREME_RECTANGLE = 8  # by four points on its sides
_ADVICE = "VIA writes a dictionary here; correct it or export the annotations again"


@dataclass(slots=True)
class Region:
    """A region: `shape` as `shape_attributes` of versions 1 and 2 (unchecked), `attributes` by name."""

    id: str
    shape: Any
    attributes: dict


@dataclass(slots=True)
class Image:
    """What a file says about an image."""

    id: str  # its key in the file
    name: str  # of the image file
    folder: str = ""  # that the name is relative to, relative to the folder of the JSON
    regions: list[Region] = field(default_factory=list)


def images_of(content: Any, file: str, problems: ProblemLog) -> list[Image]:
    """The images of a file of VIA, of any version.

    Args:
        content: the parsed JSON.
        file: its name in problems.
        problems: takes the entries that are no images or regions.
    """
    if not isinstance(content, dict):
        problems.add("via-structure", file, _ADVICE, field="the file", value=type(content).__name__)
        return []
    if "metadata" in content and "file" in content:
        return _version_3(content, file, problems)
    folder = ""
    images: Any = content
    if "_via_img_metadata" in content or "_via_settings" in content:
        images = content.get("_via_img_metadata")
        folder = _text_at(content, "_via_settings", "core", "default_filepath")
    return [
        image
        for key, entry in _entries(images, "_via_img_metadata", file, problems)
        if (image := _image(str(key), entry, folder, file, problems)) is not None
    ]


def _image(key: str, entry: Any, folder: str, file: str, problems: ProblemLog) -> Image | None:
    name = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        advice = "an image has its file's name here; write it or delete the entry"
        problems.add("image-missing", file, advice, id=key, field="filename", value=name)
        return None
    image = Image(key, name, folder)
    for number, region in _entries(entry.get("regions", []), "regions", file, problems, key):
        if not isinstance(region, dict):
            problems.add("via-structure", file, _ADVICE, id=f"{key} region {number}", field="region", value=region)
            continue
        attributes = region.get("region_attributes")
        attributes = attributes if isinstance(attributes, dict) else {}
        image.regions.append(Region(f"region {number}", region.get("shape_attributes"), attributes))
    return image


def _version_3(content: dict, file: str, problems: ProblemLog) -> list[Image]:
    images: dict[str, Image] = {}
    for key, entry in _entries(content["file"], "file", file, problems):
        # `src` is the path where there is one; for files that were picked in a dialogue it is empty.
        names = [entry.get("src"), entry.get("fname")] if isinstance(entry, dict) else [None]
        name = next((name for name in names if isinstance(name, str) and name and "://" not in name), None)
        if name is None:
            problems.add(
                "image-missing", file, "an image has its file's name here; write it", id=str(key), field="fname"
            )
            continue
        images[str(key)] = Image(str(key), name)
    views = dict(_entries(content.get("view", {}), "view", file, problems))
    attributes = dict(_entries(content.get("attribute", {}), "attribute", file, problems))
    for key, entry in _entries(content["metadata"], "metadata", file, problems):
        xy = entry.get("xy") if isinstance(entry, dict) else None
        if xy == []:  # an attribute of the whole file, not of a region
            continue
        image = images.get(_file_of(views, entry))
        if not isinstance(xy, list) or image is None:
            advice = "it has a shape `xy` and the view `vid` of a file; correct it or delete it"
            problems.add("via-structure", file, advice, id=str(key), field="metadata", value=entry)
            continue
        shape = _shape_3(xy)
        image.regions.append(Region(f"region {key}", shape, _attributes_3(entry.get("av"), attributes)))
    return list(images.values())


def _file_of(views: dict, entry: Any) -> str:
    """The key of the file that an entry of `metadata` is drawn in."""
    vid = str(entry.get("vid")) if isinstance(entry, dict) else ""
    view = views.get(vid)
    files = view.get("fid_list") if isinstance(view, dict) else None
    return str(files[0]) if isinstance(files, list) and files else vid


def _shape_3(xy: list) -> dict:
    """`[7, x0, y0, x1, y1, ...]` as versions 1 and 2 write it."""
    number, values = xy[0], xy[1:]
    if number == _EXTREME_RECTANGLE and len(values) == 8 and all(type(value) in (int, float) for value in values):
        x, y = min(values[0::2]), min(values[1::2])
        width, height = max(values[0::2]) - x, max(values[1::2]) - y
        return {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    name = _SHAPES_3.get(number) if type(number) is int else None
    if name in ("polyline", "polygon"):
        return {"name": name, "all_points_x": values[0::2], "all_points_y": values[1::2]}
    return {"name": name or str(number), **dict(zip(_COORDINATES_3.get(name or "", ()), values))}


def _attributes_3(values: Any, attributes: dict) -> dict:
    """Values by the attributes' names; a value that is the key of an option is the option's text."""
    found = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        attribute = attributes.get(key)
        attribute = attribute if isinstance(attribute, dict) else {}
        options = attribute.get("options")
        if isinstance(options, dict) and isinstance(value, str):
            value = options.get(value, value)
        name = attribute.get("aname")
        found[name if isinstance(name, str) else str(key)] = value
    return found


def _entries(
    content: Any, name: str, file: str, problems: ProblemLog, id: str | None = None
) -> Iterator[tuple[Any, Any]]:
    """The entries of a dictionary or a list with their keys."""
    if isinstance(content, dict):
        yield from content.items()
    elif isinstance(content, list):
        yield from enumerate(content)
    elif content is not None:
        problems.add("via-structure", file, _ADVICE, id=id, field=name, value=content)


def _text_at(content: Any, *keys: str) -> str:
    """The text below keys; empty without. A folder on another machine, or in the net, is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    if not isinstance(content, str) or "://" in content or "\0" in content:
        return ""
    folder = PurePosixPath(content.replace("\\", "/"))
    return "" if folder.is_absolute() or ".." in folder.parts else str(folder)
