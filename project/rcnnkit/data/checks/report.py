"""A check as text for a person, and as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from rcnnkit.data.checks.run import Checked
from rcnnkit.data.checks.statistics import Statistics, quantiles
from rcnnkit.data.labelled import ERROR, Problem

SHOWN = 20  # problems of a kind


def as_text(checked: Checked) -> str:
    """Problems by kind, counts, and what the objects suggest for a config."""
    lines = [f"{checked.tree.root}: {checked.reader.name}: {checked.reason}"]
    for other in checked.also:
        lines.append(f"also seen, and checked with --format {other.reader.name}: {other.reason}")
    lines.append("")
    for kind, problems in by_kind(checked.problems).items():
        lines.append(f"{problems[0].severity.upper()} {kind}: {len(problems)}")
        lines += [f"  {line(problem)}" for problem in problems[:SHOWN]]
        if len(problems) > SHOWN:
            lines.append(f"  ... and {len(problems) - SHOWN} more; --json FILE writes all")
        lines.append("")
    statistics = checked.statistics()
    lines += [*_parts_table(statistics), "", *_classes_table(statistics)]
    found = checked.suggestions()
    if found:
        lines += ["", "What the objects suggest, measured against Detectron2's defaults:"]
        lines += [f"  {suggestion}" for suggestion in found]
    return "\n".join([*lines, "", summary(checked.problems)])


def by_kind(problems: list[Problem]) -> dict[str, list[Problem]]:
    """The problems of each kind; kinds with errors first, then the most frequent."""
    groups: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.kind].append(problem)
    return dict(sorted(groups.items(), key=lambda group: (group[1][0].severity != ERROR, -len(group[1]))))


def line(problem: Problem) -> str:
    """One problem, with the image where the file is another one."""
    seen = f" ({problem.image})" if problem.image not in (None, problem.file) else ""
    place = problem.file if problem.id is None else f"{problem.file}: {problem.id}"
    found = "" if problem.field is None else f": {problem.field} is {problem.value}"
    return f"{place}{seen}{found}: {problem.advice}"


def summary(problems: list[Problem]) -> str:
    """One line."""
    if not problems:
        return "no problems"
    errors = sum(problem.severity == ERROR for problem in problems)
    return f"{errors} errors and {len(problems) - errors} warnings of {len(by_kind(problems))} kinds"


def as_json(checked: Checked) -> dict:
    """Everything, in plain containers."""
    return {
        "path": str(checked.tree.root),
        "format": checked.reader.name,
        "reason": checked.reason,
        "counts": {kind: len(problems) for kind, problems in by_kind(checked.problems).items()},
        "problems": [
            {name: getattr(problem, name) for name in Problem.__dataclass_fields__} for problem in checked.problems
        ],
        "statistics": {split or "all": found.as_json() for split, found in checked.statistics().items()},
        "suggestions": [
            {"overrides": list(suggestion.overrides), "reason": suggestion.reason}
            for suggestion in checked.suggestions()
        ],
    }


def _parts_table(statistics: dict[str | None, Statistics]) -> Iterator[str]:
    names = [split or "all" for split in statistics]
    width = max(map(len, (*names, "part")))
    yield f"{'part':{width}}  images  empty  objects   masks  keypoints  objects/image   pixels/object"
    for name, found in zip(names, statistics.values(), strict=True):
        middle = quantiles(found.per_image)
        size = quantiles(found.sizes)
        per_image = f"{middle['p50']:g}, max {middle['max']:g}" if middle else "-"
        pixels = f"{size['p5']:.0f} < {size['p50']:.0f} < {size['p95']:.0f}" if size else "-"
        yield (
            f"{name:{width}}  {found.images:6}  {found.empty_images:5}  {found.objects:7}  {found.with_masks:6}  "
            f"{found.with_keypoints:9}  {per_image:>13}  {pixels:>14}"
        )
    yield "(pixels: the square root of width times height of the box; 5 % < median < 95 %)"


def _classes_table(statistics: dict[str | None, Statistics]) -> Iterator[str]:
    classes = list(dict.fromkeys(name for found in statistics.values() for name in found.classes))
    total = {name: sum(found.classes.get(name, 0) for found in statistics.values()) for name in classes}
    shown = sorted(classes, key=lambda name: -total[name])[:SHOWN]
    width = max(map(len, (*shown, "class")))
    yield f"{'class':{width}}  " + "  ".join(f"{split or 'all':>8}" for split in statistics)
    for name in shown:
        counts = (found.classes.get(name, 0) for found in statistics.values())
        cells = (f"{count:{max(8, len(split or 'all'))}}" for count, split in zip(counts, statistics, strict=True))
        yield f"{name:{width}}  " + "  ".join(cells)
    if len(classes) > SHOWN:
        yield f"... and {len(classes) - SHOWN} more classes"
