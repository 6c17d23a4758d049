"""All parts of a data set at once: what is counted, drawn, converted and divided."""

from __future__ import annotations

from dataclasses import dataclass, field

from rcnnkit.data import splits
from rcnnkit.data.formats import Reader, choose_reader, recognise
from rcnnkit.data.labelled import LabelledData, ProblemLog
from rcnnkit.data.naming import read_part, resolve, split_name
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError


@dataclass(slots=True)
class Parts:
    """A data set, part by part."""

    tree: Tree
    reader: Reader
    reason: str  # what shows the format
    also: tuple[str, ...]  # other formats that the folder shows
    parts: dict[str | None, LabelledData]  # by the name that the folder gives it; None: it is not divided
    problems: ProblemLog = field(default_factory=ProblemLog)

    def distinct(self, keypoints: bool = False) -> dict[str | None, LabelledData]:
        """One labelling of each part; with `keypoints` that of the keypoints, otherwise that of the objects."""
        named = [name for name in self.parts if name is not None]
        if not named:
            return dict(self.parts)
        groups = splits.labellings(named) if splits.is_divided(named) else {"": named}
        return {(name := splits.preferred(same, keypoints)): self.parts[name] for same in groups.values()}


def read_parts(path: str, *, data_format: str = "auto", images: str | None = None, split: str | None = None) -> Parts:
    """Read every part of a data set and every labelling of it, or the one that `split` or `path@split` names.

    Raises:
        UserError: no such path or part, no known format, or nothing that can be read.
    """
    where, named = split_name(path)
    asked = named if split is None else split
    problems = ProblemLog()
    if asked is not None:
        part = resolve(where, data_format=data_format, images=images, split=asked)
        data = read_part(part, problems)
        return Parts(part.tree, part.reader, part.reason, part.also, {part.held_out or part.split: data}, problems)
    tree = Tree(where, images)
    chosen = choose_reader(tree, data_format)
    others = recognise(tree) if data_format == "auto" else []
    also = tuple(f"{other.reader.name} ({other.reason})" for other in others if other.reader.name != chosen.reader.name)
    tree.refuse_links_out(problems)
    found: dict[str | None, LabelledData] = {}
    refusals = []
    names: list[str | None] = [*chosen.reader.splits(tree)]
    for name in names or [None]:
        try:
            found[name] = chosen.reader.read(tree, name, problems)
        except UserError as error:
            refusals.append(error)
            problems.add("part-unreadable", str(name), str(error))
    if not found:
        raise refusals[0]
    return Parts(tree, chosen.reader, chosen.reason, also, found, problems)
