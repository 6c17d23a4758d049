"""Where a folder in YOLO's format keeps its images, its labels and the names of its classes.

Three layouts: a `data.yaml` of Ultralytics; the `.data`, `.names` and lists of images of Darknet; plain folders
(`images` and `labels`, or labels beside the images) with or without a `classes.txt`. Paths in `data.yaml` and in the
lists are often those of another machine: then the longest end of them that exists in this folder is meant.

Formats: https://docs.ultralytics.com/datasets/detect and https://github.com/AlexeyAB/darknet
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rcnnkit.data.formats.json_file import head
from rcnnkit.data.formats.lookup import find_picture, folder_split
from rcnnkit.data.formats.yolo_description import Points, class_names, keypoints, read_yaml
from rcnnkit.data.labelled import WARNING, ProblemLog
from rcnnkit.data.tree import OutsideError, Tree

_SPLITS = ("train", "val", "valid", "validation", "test")
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")
_LABEL_LINE = re.compile(r"\d+(?:\.0*)?(?:\s+[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?){4,}\s*")


@dataclass(slots=True)
class Layout:
    """What a folder says about itself."""

    reason: str  # in words, for a person
    sources: dict[str, list[Path]]  # split ("" without) → folders of images, and text files that list images
    deep: bool = True  # a folder means also those in it
    names: dict[int, str] | None = None  # of the classes, by their number
    points: Points | None = None
    files: list[Path] = field(default_factory=list)


class Labels:
    """The way from an image to its text file of labels."""

    def __init__(self, tree: Tree):
        self.tree = tree
        # Also those that lead out of the data set: their images are not taken for images without objects.
        texts = [*tree.with_suffix(".txt"), *(path for path in tree.links_out if path.suffix.lower() == ".txt")]
        self.texts = {path for path in texts if path.name not in _NAME_FILES}
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        if tree.images_root is not None:
            for path in sorted(self.texts):
                self.by_stem[path.stem].append(path)

    def expected(self, image: Path) -> Iterator[Path]:
        """Where the labels of an image may lie: the folder `labels` for `images`, the image's own folder."""
        parts = image.parts
        for position in range(len(parts) - 2, 0, -1):
            if parts[position] in ("images", "Images"):
                folder = "labels" if parts[position] == "images" else "Labels"
                yield Path(*parts[:position], folder, *parts[position + 1 :]).with_suffix(".txt")
                break
        yield image.with_suffix(".txt")
        if self.tree.images_root is not None and image.is_relative_to(self.tree.images_root):
            below = image.relative_to(self.tree.images_root).with_suffix(".txt")
            yield self.tree.root / "labels" / below
            yield self.tree.root / below

    def of(self, image: Path) -> Path | None:
        """The labels of an image; None where there are none."""
        found = next((path for path in self.expected(image) if path in self.texts), None)
        if found is None:
            same = self.by_stem.get(image.stem, [])
            found = same[0] if len(same) == 1 else None
        return found


def find_layout(tree: Tree, problems: ProblemLog) -> Layout | None:
    """How the folder is laid out; None where it is not YOLO's."""
    given = tree.annotation_file
    if given is not None and given.suffix.lower() not in (".yaml", ".yml", ".data", ".names"):
        return None
    top = [given] if given is not None else [path for path in tree.files if path.parent == tree.root]
    described = _described(tree, [path for path in top if path.suffix.lower() in (".yaml", ".yml")], problems)
    layout, names = described if described is not None else (None, None)
    if layout is None:
        layout = _darknet(tree, [path for path in top if path.suffix.lower() in (".data", ".names")])
    if layout is not None and layout.sources:
        return layout
    folders = _folders(tree, problems)
    if folders is None:
        return None
    if layout is not None:  # a description whose paths lead nowhere still names the classes
        layout.sources, layout.deep = folders.sources, folders.deep
        return layout
    if names is not None:
        folders.names = names
    return folders


def images_of(tree: Tree, layout: Layout, split: str | None, problems: ProblemLog) -> list[Path]:
    """The images of one split, or of all, each once. A listed image that is not there is a problem."""
    found: dict[Path, None] = {}
    for source in (path for name in layout.sources if split in (None, name) for path in layout.sources[name]):
        if source.is_dir():
            below = f"{source}{os.sep}"
            images = [path for path in tree.images if str(path).startswith(below)]
            images = images if layout.deep else [path for path in images if path.parent == source]
            found.update(dict.fromkeys(images))
        else:
            found.update(dict.fromkeys(_listed_images(tree, source, problems)))
    return list(found)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without the blanks around them; undecodable bytes become U+FFFD.

    Raises:
        OSError: it cannot be read.
    """
    return [line.strip() for line in path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()]


def _lines_if_any(path: Path) -> list[str]:
    try:
        return read_lines(path)
    except OSError:
        return []


# --- data.yaml


def _described(
    tree: Tree, files: list[Path], problems: ProblemLog
) -> tuple[Layout | None, dict[int, str] | None] | None:
    """The layout of the first `data.yaml` (or as it may be called), and the names of the classes."""
    names = None
    # Of several, the one that Ultralytics and Roboflow write.
    for path in sorted(files, key=lambda path: (path.stem != "data", path.name)):
        content = read_yaml(tree, path, problems)
        if content is None or not ("names" in content or "nc" in content):
            continue
        names = class_names(tree, path, content, problems)
        if any(content.get(split) for split in _SPLITS):
            layout = Layout(f"{tree.relative(path)} with names of classes and paths of images", {}, names=names)
            layout.files = [path]
            layout.points = keypoints(tree, path, content, problems)
            layout.sources = _described_sources(tree, path, content, problems)
            return layout, names
    return None if names is None else (None, names)


def _described_sources(tree: Tree, path: Path, content: dict, problems: ProblemLog) -> dict[str, list[Path]]:
    stated = content.get("path")
    bases = [path.parent / stated, path.parent] if isinstance(stated, str) else [path.parent]
    sources: dict[str, list[Path]] = {}
    for split in _SPLITS:
        entries = content.get(split) or []
        for entry in [entries] if isinstance(entries, str) else entries if isinstance(entries, list) else []:
            # `images` alone is what the paths of all splits may end in: it would make them one.
            found = _resolve(tree, bases, entry, ("images",)) if isinstance(entry, str) else None
            if found is not None:
                sources.setdefault(split, []).append(found)
            else:
                advice = "there is no such folder or list of images; correct the path or delete the line"
                value = entry if isinstance(entry, str) else type(entry).__name__
                problems.add("split-missing", tree.relative(path), advice, field=split, value=value, severity=WARNING)
    return sources


def _resolve(tree: Tree, bases: list[Path], text: str, never: tuple[str, ...] = ()) -> Path | None:
    """The file or folder of the data set that a path means: as it says, else its longest end that exists here.

    Args:
        bases: the folders that it may be relative to.
        never: names that are too short an end of a longer path.
    """
    text = text.replace("\\", "/")
    if not text or "\0" in text:
        return None
    roots = [tree.root] if tree.images_root is None else [tree.images_root, tree.root]
    parts = [part for part in PurePosixPath(text).parts if part not in ("/", ".", "..")]
    ends = [
        parts[start:] for start in range(len(parts)) if start == 0 or len(parts) - start > 1 or parts[-1] not in never
    ]
    candidates = [base / text for base in (*bases, *roots)]
    candidates += [root.joinpath(*end) for end in ends for root in roots]
    for candidate in candidates:
        candidate = Path(os.path.normpath(candidate))
        if any(candidate.is_relative_to(root) for root in roots) and _exists(candidate):
            try:
                return tree.inside(candidate)
            except OutsideError:
                continue
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


# --- Darknet


def _darknet(tree: Tree, files: list[Path]) -> Layout | None:
    """`obj.data` with its lists of images; or `obj.names` beside lists called train.txt, valid.txt and the like."""
    data = next((path for path in files if path.suffix.lower() == ".data"), None)
    options: dict[str, str] = {}
    if data is not None:
        pairs = (line.split("=", 1) for line in _lines_if_any(data) if "=" in line)
        options = {key.strip(): value.strip() for key, value in pairs}
    named = _resolve(tree, [tree.root], options.get("names", "")) or next(
        (path for path in files if path.suffix.lower() == ".names"), None
    )
    if named is None or not named.is_file():
        return None
    sources = {}
    for split in _SPLITS:
        listing = _resolve(tree, [tree.root], options.get(split) or f"{split}.txt")
        if listing is not None and listing.is_file():
            sources[split] = [listing]
    described = [path for path in (data, named) if path is not None]
    reason = f"{' and '.join(tree.relative(path) for path in described)} as Darknet has them"
    if sources:
        reason += f", images listed in {', '.join(tree.relative(paths[0]) for paths in sources.values())}"
    elif not Labels(tree).texts:
        return None
    return Layout(reason, sources, names=_listed_names(named), files=described)


def _listed_images(tree: Tree, listing: Path, problems: ProblemLog) -> list[Path]:
    known = set(tree.images)
    folders: dict[str, Path | None] = {}
    found: dict[Path, int] = {}
    for number, line in enumerate(_lines_if_any(listing), 1):
        if not line:
            continue
        folder_name, _, name = line.replace("\\", "/").rpartition("/")
        if folder_name not in folders:
            folders[folder_name] = _resolve(tree, [listing.parent], folder_name or ".")
        folder = folders[folder_name]
        image = None if folder is None else folder / name
        if image not in known:
            image = _image_elsewhere(tree, listing, line, number, problems)
        if image in found:
            advice = f"the image is listed in line {found[image]} already; delete the line"
            where = {"id": f"line {number}", "field": "image", "value": line}
            problems.add("image-listed-twice", tree.relative(listing), advice, severity=WARNING, **where)
        elif image is not None:
            found[image] = number
    return list(found)


def _image_elsewhere(tree: Tree, listing: Path, line: str, number: int, problems: ProblemLog) -> Path | None:
    """The only image of this file name; None, and a problem, where there is none."""
    try:
        found = tree.find_image(PurePosixPath(line.replace("\\", "/")).name)
    except OutsideError:
        found = None
    return found or find_picture(tree, [line], listing, problems, id=f"line {number}")


# --- folders


def _folders(tree: Tree, problems: ProblemLog) -> Layout | None:
    """Folders of images of which at least one has labels; those called train, val and test are the splits."""
    labels = Labels(tree)
    if not labels.texts:
        return None
    sources: dict[str, list[Path]] = {}
    seen: set[Path] = set()
    examples: list[Path] = []
    for image in tree.images:
        if image.parent in seen:
            continue
        label = labels.of(image)
        if label is None:
            continue
        seen.add(image.parent)
        examples.append(label)
        sources.setdefault(_split_of(tree, image, label), []).append(image.parent)
    example = next((path for path in _with_text(labels, examples) if head(path, 4096).strip()), None)
    if example is None or not _LABEL_LINE.fullmatch(head(example, 1 << 14).strip().splitlines()[0]):
        return None
    names, files = _folder_names(tree, problems)
    reason = f"images with text files of labels, such as {tree.relative(example)}"
    reason += f", and {tree.relative(files[0])}" if files else ""
    return Layout(reason, sources, deep=False, names=names, files=files)


def _split_of(tree: Tree, image: Path, label: Path) -> str:
    split = folder_split(tree, image) if image.is_relative_to(tree.root) else None
    return split or folder_split(tree, label) or ""


def _with_text(labels: Labels, examples: list[Path]) -> Iterator[Path]:
    """The label files that were met, then a few of their neighbours: the first ones may be empty."""
    yield from examples[:8]
    folders = {path.parent for path in examples}
    neighbours = sorted(path for path in labels.texts if path.parent in folders)
    yield from neighbours[:64]


def _folder_names(tree: Tree, problems: ProblemLog) -> tuple[dict[int, str] | None, list[Path]]:
    """The names of the classes, from the classes.txt nearest to the root."""
    found = [(path, _listed_names(path)) for path in tree.files if path.name in _NAME_FILES]
    found = [(path, names) for path, names in found if names]
    if not found:
        return None, []
    taken, names = min(found, key=lambda item: (len(item[0].parts), item[0]))
    for path, others in found:
        if others != names:
            advice = f"the classes are not those of {tree.relative(taken)}, which counts; make the two files equal"
            problems.add("class-names-differ", tree.relative(path), advice)
    return names, [taken]


def _listed_names(path: Path) -> dict[int, str] | None:
    """One name a line; blank lines at the end are no names."""
    lines = _lines_if_any(path)
    while lines and not lines[-1]:
        lines.pop()
    return dict(enumerate(lines)) or None
