"""OpenImages: CSV files with a row per box, in fractions of the image's width and height, and a CSV of class names.

Rows are read by the names in the header (ImageID, LabelName, XMin, XMax, YMin, YMax; IsGroupOf is a crowd), so their
order does not matter; fractions may have a decimal comma, as some tools write in some countries. An ImageID is the
image's file name with or without suffix. Names from class-descriptions*.csv take the place of ids like /m/011k07.
Format: https://storage.googleapis.com/openimages/web/download_v7.html
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from detectron2.structures import BoxMode
from rcnnkit.data.formats.lookup import find_picture, folder_split, picture_size
from rcnnkit.data.labelled import LabelledData, ProblemLog, number_classes
from rcnnkit.data.progress import shown
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

_EDGES = ("XMin", "YMin", "XMax", "YMax")
_NEEDED = frozenset({"ImageID", "LabelName", *_EDGES})
_SPLIT_NAME = re.compile(r"(?:.*[-_])?(train|validation|test)[-_]annotations", re.IGNORECASE)


class OpenImagesReader:
    """Reads OpenImages' CSV files of boxes."""

    name = "openimages"

    def recognise(self, tree: Tree) -> str | None:
        """A CSV file whose header has the columns of a box."""
        for path in tree.annotation_files(".csv")[:20]:
            if _is_boxes(path):
                return f"{tree.relative(path)} has the columns ImageID, LabelName, XMin, ... of OpenImages"
        return None

    def splits(self, tree: Tree) -> list[str]:
        """The splits in the names of the files (train-annotations-bbox.csv), else those of their folders."""
        return sorted({split for path in _files(tree) if (split := _split(tree, path))})

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one split or all; classes are those with a box in any split, as class-descriptions orders them."""
        files = _files(tree)
        if not files:
            raise UserError(
                f"{tree.root}: no CSV file has the columns {', '.join(sorted(_NEEDED))} of OpenImages' boxes"
            )
        described = _descriptions(tree)
        pictures: dict[str, dict | None] = {}
        names: set[str] = set()
        used = [path for path in files if split is None or _split(tree, path) == split]
        for path in files:
            wanted = path in used
            rows = _rows(tree, path, problems if wanted else ProblemLog())
            for line, row in shown(rows, "reading boxes", " boxes"):
                name = described.get(row["LabelName"], row["LabelName"])
                names.add(name)
                if wanted:
                    _add(tree, path, line, row, name, pictures, problems)
        classes = [name for name in dict.fromkeys(described.values()) if name in names]
        classes += sorted(names.difference(classes))
        records = [record for record in pictures.values() if record is not None]
        number_classes(records, classes)
        return LabelledData(self.name, classes, records, used)


def _files(tree: Tree) -> list[Path]:
    return [path for path in tree.annotation_files(".csv") if _is_boxes(path)]


def _is_boxes(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = stream.readline(2000)
    return set(next(csv.reader([header]), [])) >= _NEEDED


def _split(tree: Tree, path: Path) -> str | None:
    named = _SPLIT_NAME.match(path.name)
    return named[1].lower() if named else folder_split(tree, path)


def _descriptions(tree: Tree) -> dict[str, str]:
    """Names by id, of class-descriptions-boxable.csv and the like: `id,name` with or without a header."""
    names: dict[str, str] = {}
    for path in tree.with_suffix(".csv"):
        if "class-descriptions" in path.name.lower():
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
                rows = [row for row in csv.reader(stream) if len(row) >= 2]
            names.update({row[0].strip(): row[1].strip() for row in rows if row[0].strip() != "LabelName"})
    return names


def _rows(tree: Tree, path: Path, problems: ProblemLog) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row by column) of the rows that are whole."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            for row in reader:
                short = sorted(column for column in ("ImageID", "LabelName") if not (row[column] or "").strip())
                if short:
                    advice = "the row has no value here; complete it or delete it"
                    where = {"id": f"line {reader.line_num}", "field": short[0], "value": row[short[0]]}
                    problems.add("row-incomplete", tree.relative(path), advice, **where)
                    continue
                row["LabelName"] = row["LabelName"].strip()
                yield reader.line_num, row
        except csv.Error as error:
            advice = f"it is not CSV from line {reader.line_num} on ({error}); download it again"
            problems.add("file-unreadable", tree.relative(path), advice)


def _add(
    tree: Tree,
    path: Path,
    line: int,
    row: dict[str, str],
    name: str,
    pictures: dict[str, dict | None],
    problems: ProblemLog,
) -> None:
    """Add a row's box to its image's record in `pictures`, where None stands for an image that is not there."""
    image_id = row["ImageID"].strip()
    if image_id not in pictures:
        pictures[image_id] = _picture(tree, path, line, image_id, problems)
    record = pictures[image_id]
    if record is None:
        return
    written = {edge: row[edge] for edge in _EDGES}
    try:
        left, top, right, bottom = (float((written[edge] or "").replace(",", ".")) for edge in _EDGES)
    except ValueError:
        advice = "a box is four fractions; correct them or delete the row"
        values = list(written.values())
        file, field = tree.relative(path), "XMin, YMin, XMax, YMax"
        problems.add("box-unreadable", file, advice, id=f"line {line}", field=field, value=values)
        return
    width, height = record["width"], record["height"]
    record["annotations"].append(
        {
            "id": line,
            "category_id": name,
            "bbox": [left * width, top * height, right * width, bottom * height],
            "bbox_mode": BoxMode.XYXY_ABS,
            "iscrowd": int((row.get("IsGroupOf") or "").strip() in ("1", "True", "true")),
        }
    )


def _picture(tree: Tree, path: Path, line: int, image_id: str, problems: ProblemLog) -> dict | None:
    split = _split(tree, path)
    folders = [folder / split for folder in (path.parent, tree.root)] if split else []
    picture = find_picture(tree, [image_id], path, problems, id=f"line {line}", folders=folders)
    size = None if picture is None else picture_size(tree, picture, problems)
    if size is None:
        return None
    width, height = size
    return {"file_name": str(picture), "height": height, "width": width, "image_id": image_id, "annotations": []}
