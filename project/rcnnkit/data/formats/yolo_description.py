"""The data.yaml of Ultralytics: names of classes, keypoints. Format: https://docs.ultralytics.com/datasets/pose"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from rcnnkit.data.labelled import WARNING, ProblemLog
from rcnnkit.data.tree import Tree

_LARGEST_DESCRIPTION = 1 << 20  # bytes; a data.yaml with 80 classes has 2 kB


@dataclass(slots=True)
class Points:
    """Keypoints of every object: how many, how many numbers for each (2 or 3), what `data.yaml` says about them."""

    count: int
    numbers: int
    flip: list[int] = field(default_factory=list)  # the index of the point that takes its place in a mirrored image
    names: dict[int, list[str]] = field(default_factory=dict)  # by the number of the class; -1: of all classes


def read_yaml(tree: Tree, path: Path, problems: ProblemLog) -> dict | None:
    """The content of a YAML file, all scalars as text; None, and a problem, where there is none."""
    try:
        if path.stat().st_size > _LARGEST_DESCRIPTION:
            return None
        # The base loader leaves every scalar the text that it is: a class named `no` or `1` keeps its name.
        content = yaml.load(path.read_bytes().decode("utf-8-sig", errors="replace"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        if path.stem in ("data", "dataset"):
            advice = f"the file cannot be read ({' '.join(str(error).split())[:120]}); correct it"
            problems.add("file-unreadable", tree.relative(path), advice)
        return None
    return content if isinstance(content, dict) else None


def class_names(tree: Tree, path: Path, content: dict, problems: ProblemLog) -> dict[int, str] | None:
    """The names of the classes by their number; None without. What is no name is a problem."""
    names, count = content.get("names"), _whole(content.get("nc"))
    found: dict[int, str] = {}
    if isinstance(names, (dict, list)):
        for key, name in names.items() if isinstance(names, dict) else enumerate(names):
            number = _whole(key)
            if number is None or not isinstance(name, str):
                advice = "names are texts, in a list or by their number; correct it"
                value = key if isinstance(key, str) else f"names[{key}]"
                problems.add("class-name", tree.relative(path), advice, field="names", value=value)
            else:
                found[number] = name
    if not found and count is not None and count <= 10000:
        found = {number: str(number) for number in range(count)}
    if count is not None and count != len(found):
        advice = f"{len(found)} classes have a name; correct nc or names"
        problems.add("class-count", tree.relative(path), advice, field="nc", value=count, severity=WARNING)
    return dict(sorted(found.items())) or None


def keypoints(tree: Tree, path: Path, content: dict, problems: ProblemLog) -> Points | None:
    """What a data.yaml says about keypoints; None where its objects have none. What cannot be used is a problem."""
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    sizes = [_whole(size) for size in shape] if isinstance(shape, list) else []
    count, per_point = sizes if len(sizes) == 2 else (None, None)
    if not count or per_point not in (2, 3):
        advice = "it is the number of keypoints, and 2 or 3 numbers for each, such as [17, 3]; correct it"
        value = sizes or str(type(shape).__name__)
        problems.add("keypoint-shape", tree.relative(path), advice, field="kpt_shape", value=value)
        return None
    points = Points(count, per_point)
    flip = content.get("flip_idx")
    if flip:
        indices = [_whole(index) for index in flip] if isinstance(flip, list) else []
        if sorted(index for index in indices if index is not None) == list(range(count)):
            points.flip = [index for index in indices if index is not None]
        else:
            advice = f"it names each of the {count} keypoints once, by the index of its mirror image; correct it"
            problems.add("keypoint-flip", tree.relative(path), advice, field="flip_idx", value=indices)
    named = content.get("kpt_names")
    by_class = named if isinstance(named, dict) else {-1: named} if named else {}
    for key, names in by_class.items():
        number = key if key == -1 else _whole(key)
        if number is not None and isinstance(names, list) and len(names) == count and _all_text(names):
            points.names[number] = names
        else:
            advice = f"it is a list of {count} different names for each class; correct it"
            problems.add("keypoint-names", tree.relative(path), advice, field="kpt_names", value=str(key))
    return points


def _whole(text: object) -> int | None:
    """A whole number of at least 0; None otherwise."""
    if isinstance(text, int):
        return text if text >= 0 else None
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10 else None


def _all_text(names: list) -> bool:
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
