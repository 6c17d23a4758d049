"""DeepLabCut: CSV files of labelled points, one beside each folder of frames, and the project's config.yaml.

A file has three rows of header (scorer, bodyparts, coords), four with several animals (individuals), then a row per
frame: its path, in one column or in one for each part, and x and y of each point. Points are pixel indices as the
labelling tools give them; here the centre of the first pixel is at 0.5. A point without numbers is not labelled
(v = 0), one with is visible (2): the format says nothing of hidden points.

- All animals are of one class, "animal", with the body parts as keypoints; what config.yaml calls unique body parts
  (the individual "single" beside others) is a second class, "single". Order and skeleton are config.yaml's.
- There are no boxes. A box is the smallest around the labelled points, grown on each side by a margin and cut at the
  image's border. The margin is a fraction of the box's longer side, so that points on one line get a box too.
- A frame without any point is left out, with a warning: DeepLabCut does not train on it either.
- Of several scorers in one folder config.yaml's is taken. `training-datasets` holds copies and is not read.

Format: https://deeplabcut.github.io/DeepLabCut/docs/standardDeepLabCut_UserGuide.html
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from detectron2.structures import BoxMode
from rcnnkit.data.formats.lookup import find_picture, picture_size
from rcnnkit.data.labelled import WARNING, LabelledData, ProblemLog, Skeleton
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

KEYPOINT_BOX_MARGIN = 0.1
ANIMAL, SINGLE = "animal", "single"
_HEADER_ROWS = ("scorer", "individuals", "bodyparts", "coords")


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file: its header, taken apart."""

    path: Path
    header_rows: int
    path_columns: int
    columns: int
    points: dict[tuple[str, str], tuple[int, int]]  # (individual, body part) → columns of x and y

    def parts_of(self, category: str) -> list[str]:
        """The body parts of a class."""
        return [part for individual, part in self.points if self.category(individual) == category]

    def category(self, individual: str) -> str:
        """The class of an individual."""
        others = any(name != individual for name, _ in self.points)
        return SINGLE if individual == SINGLE and others else ANIMAL


@dataclass(frozen=True, slots=True)
class Project:
    """What config.yaml says."""

    scorer: str | None
    parts: list[str]
    skeleton: list[tuple[str, str]]
    file: Path | None = None


class DeepLabCutReader:
    """Reads DeepLabCut's labelled frames.

    Args:
        box_margin: what a box is wider than its points on each side, as a fraction of its longer side.
    """

    name = "deeplabcut"

    def __init__(self, box_margin: float = KEYPOINT_BOX_MARGIN):
        self.box_margin = box_margin

    def recognise(self, tree: Tree) -> str | None:
        """A CSV file with the rows scorer, bodyparts and coords, without the likelihoods of predictions."""
        for path in _candidates(tree)[:20]:
            table = _table(path)
            if table is not None:
                return f"{tree.relative(path)} has the rows scorer, bodyparts, coords of DeepLabCut"
        return None

    def splits(self, tree: Tree) -> list[str]:
        """None: the frames of a project are not divided."""
        return []

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read the frames of all files."""
        project = _project(tree, problems)
        tables = _of_scorer(tree, [table for path in _candidates(tree) if (table := _table(path))], project, problems)
        if not tables:
            raise UserError(f"{tree.root}: no CSV file has DeepLabCut's rows scorer, bodyparts and coords")
        used = {table.category(individual) for table in tables for individual, _ in table.points}
        classes = [name for name in (ANIMAL, SINGLE) if name in used]
        skeletons = [_skeleton(name, tables, project) for name in classes]
        _check_skeleton(tree, project, skeletons, problems)
        records: dict[Path, dict] = {}
        for table in shown(tables, "reading labels"):
            for line, row in _rows(tree, table, problems):
                record = self._record(tree, table, line, row, dict(zip(classes, skeletons)), problems)
                if record is None:
                    continue
                path = Path(record["file_name"])
                if path in records:
                    advice = "the frame is listed twice; delete one row"
                    file = tree.relative(table.path)
                    problems.add("image-listed-twice", file, advice, id=f"line {line}", field="image", value=path.name)
                records.setdefault(path, record)
        files = [table.path for table in tables] + ([project.file] if project.file else [])
        return LabelledData(self.name, classes, list(records.values()), files, dict(enumerate(skeletons)))

    def _record(
        self, tree: Tree, table: Table, line: int, row: list[str], skeletons: dict[str, Skeleton], problems: ProblemLog
    ) -> dict | None:
        """The record of a row; None without its image or without any point."""
        file, where = tree.relative(table.path), f"line {line}"
        parts = [part for part in row[: table.path_columns] if part]
        # the CSV lies among its frames: the bare name is the second guess, for a folder that was moved
        picture = find_picture(tree, ["/".join(parts), *parts[-1:]], table.path, problems, id=where)
        size = None if picture is None else picture_size(tree, picture, problems)
        if picture is None or size is None:
            return None
        objects: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
        for (individual, part), columns in table.points.items():
            point = _point(row, columns, part, file, where, problems)
            if point is not None:
                objects[individual][part] = point
        if not objects:
            advice = "the frame has no point and is left out; label it, or delete the row"
            problems.add("frame-unlabelled", file, advice, id=where, severity=WARNING)
            return None
        annotations = []
        for individual, points in objects.items():
            id = f"{where}, {individual}" if individual else where
            if len(points) == 1:
                advice = "a box cannot be told from one point; label another one"
                problems.add("box-of-one-point", file, advice, id=id, severity=WARNING)
            category = table.category(individual)
            annotation = {
                "category_id": list(skeletons).index(category),
                "bbox": box_around(list(points.values()), self.box_margin, size),
                "bbox_mode": BoxMode.XYXY_ABS,
                "iscrowd": 0,
                "keypoints": _flat(points, skeletons[category].names),
                "id": id,
            }
            annotations.append(annotation)
        return {
            "file_name": str(picture),
            "height": size[1],
            "width": size[0],
            "image_id": tree.relative(picture),
            "annotations": annotations,
        }


def _flat(points: dict[str, tuple[float, float]], names: Sequence[str]) -> list[float]:
    """x, y, v of each name."""
    numbers: list[float] = []
    for name in names:
        numbers += (*points[name], 2) if name in points else (0.0, 0.0, 0)
    return numbers


def box_around(points: Sequence[tuple[float, float]], margin: float, size: tuple[int, int]) -> list[float]:
    """The box (XYXY) around points, grown by `margin` × its longer side, by a pixel at least, and cut at the border.

    It is not cut where nothing would be left of it: all points lie outside.

    Args:
        points: at least one (x, y), pixels.
        margin: fraction.
        size: (width, height) of the image.
    """
    xs, ys = zip(*points)
    grown = max(margin * max(max(xs) - min(xs), max(ys) - min(ys)), 1.0)
    box = [min(xs) - grown, min(ys) - grown, max(xs) + grown, max(ys) + grown]
    width, height = size
    cut = [max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))]
    return cut if cut[0] < cut[2] and cut[1] < cut[3] else box


def _candidates(tree: Tree) -> list[Path]:
    files = tree.annotation_files(".csv")
    if tree.annotation_file is not None:
        return files
    return [path for path in files if "training-datasets" not in path.relative_to(tree.root).parts]


def _table(path: Path) -> Table | None:
    """The header of a file; None if it is none of DeepLabCut's labels."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = [row for row, _ in zip(csv.reader(file), range(len(_HEADER_ROWS)))]
    except (OSError, csv.Error):
        return None
    header: dict[str, list[str]] = {}
    for row in rows:
        name = row[0].strip().lower() if row else ""
        if name not in _HEADER_ROWS or name in header:
            break
        header[name] = [cell.strip() for cell in row]
    if not {"scorer", "bodyparts", "coords"} <= set(header) or len({len(row) for row in header.values()}) > 1:
        return None
    coords = header["coords"]
    first = next((index for index, cell in enumerate(coords) if cell.lower() == "x"), 0)
    if first == 0 or "likelihood" in coords:
        return None
    individuals = header.get("individuals", [""] * len(coords))
    places: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for column in range(first, len(coords)):
        places[individuals[column], header["bodyparts"][column]][coords[column].lower()] = column
    points = {point: (axes["x"], axes["y"]) for point, axes in places.items() if {"x", "y"} <= set(axes)}
    return Table(path, len(header), first, len(coords), points)


def _rows(tree: Tree, table: Table, problems: ProblemLog) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each frame."""
    with open(table.path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        try:
            for number, row in enumerate(reader):
                if number < table.header_rows or not any(cell.strip() for cell in row):
                    continue
                if len(row) != table.columns:
                    advice = f"a row has {table.columns} cells, as the header; correct it"
                    where = f"line {reader.line_num}"
                    problems.add(
                        "row-length", tree.relative(table.path), advice, id=where, field="cells", value=len(row)
                    )
                    continue
                yield reader.line_num, [cell.strip() for cell in row]
        except csv.Error as error:
            advice = f"the rest cannot be read ({error}); correct the file"
            problems.add("file-unreadable", tree.relative(table.path), advice, id=f"line {reader.line_num}")


def _point(
    row: list[str], columns: tuple[int, int], part: str, file: str, where: str, problems: ProblemLog
) -> tuple[float, float] | None:
    """A point in continuous coordinates; None where it is not labelled."""
    written = [row[column] for column in columns]
    empty = [cell.lower() in ("", "nan") for cell in written]
    if all(empty):
        return None
    advice = "a point has two finite numbers, or none; correct or empty both"
    try:
        x, y = (float(cell) for cell in written)
        if not any(empty) and math.isfinite(x) and math.isfinite(y):
            return x + 0.5, y + 0.5
    except ValueError:
        pass
    problems.add("keypoint-unreadable", file, advice, id=where, field=part, value=", ".join(written))
    return None


def _project(tree: Tree, problems: ProblemLog) -> Project:
    """config.yaml at the root or above a CSV file, the topmost."""
    path = next(iter(sorted((p for p in tree.files if p.name == "config.yaml"), key=lambda p: len(p.parts))), None)
    if path is None:
        return Project(None, [], [])
    try:
        # The base loader leaves every scalar the text that it is, and does not unfold what is said again and again.
        content = yaml.load(path.read_text(encoding="utf-8", errors="replace"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        problems.add("file-unreadable", tree.relative(path), f"is not YAML ({reason}); correct it", severity=WARNING)
        content = None
    if not isinstance(content, dict):
        return Project(None, [], [])
    names: list[str] = []
    for key in ("bodyparts", "multianimalbodyparts", "uniquebodyparts"):
        listed = content.get(key)
        names += [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    pairs = content.get("skeleton")
    skeleton = [
        (pair[0], pair[1])
        for pair in (pairs if isinstance(pairs, list) else [])
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
    ]
    scorer = content.get("scorer")
    return Project(scorer if isinstance(scorer, str) else None, list(dict.fromkeys(names)), skeleton, path)


def _of_scorer(tree: Tree, tables: list[Table], project: Project, problems: ProblemLog) -> list[Table]:
    """One table for each folder."""
    by_folder: dict[Path, list[Table]] = defaultdict(list)
    for table in tables:
        by_folder[table.path.parent].append(table)
    chosen = []
    for found in by_folder.values():
        ours = [table for table in found if table.path.stem == f"CollectedData_{project.scorer}"] or found
        chosen.append(ours[0])
        for table in found:
            if table is not ours[0]:
                advice = f"is left out: {ours[0].path.name} labels the same frames; name it alone to read it"
                problems.add("second-scorer", tree.relative(table.path), advice, severity=WARNING)
    return chosen


def _skeleton(category: str, tables: list[Table], project: Project) -> Skeleton:
    found = dict.fromkeys(part for table in tables for part in table.parts_of(category))
    names = [part for part in project.parts if part in found]
    names += [part for part in found if part not in names]
    edges = [(names.index(a), names.index(b)) for a, b in project.skeleton if a in names and b in names]
    return Skeleton(tuple(names), tuple(edges))


def _check_skeleton(tree: Tree, project: Project, skeletons: list[Skeleton], problems: ProblemLog) -> None:
    """Say which bones of the project are left out."""
    for pair in project.skeleton:
        if project.file is not None and not any(set(pair) <= set(skeleton.names) for skeleton in skeletons):
            advice = "no class has both of these body parts; correct the skeleton"
            file = tree.relative(project.file)
            problems.add("skeleton-unknown", file, advice, field="skeleton", value=list(pair), severity=WARNING)
