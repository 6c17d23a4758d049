"""Dividing a data set: seeded, in groups that stay together, and with every class shared out evenly.

Stratification is the iterative algorithm of Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label
data" (ECML PKDD 2011): the class that fewest images still have is dealt out first, each image to the part that lacks
most of it. Images of a group are dealt together, larger groups first; for them every class counts by its images.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rcnnkit.errors import UserError


@dataclass(slots=True)
class _Unit:
    """What stays together: one image, or those of a group."""

    members: list[int] = field(default_factory=list)
    labels: Counter = field(default_factory=Counter)  # class → how many of the images have it


def divide(
    labels: Sequence[frozenset[int]],
    fractions: Sequence[float],
    seed: int,
    *,
    groups: Sequence[str] | None = None,
    stratify: bool = False,
) -> list[list[int]]:
    """The images of each part, as indices in rising order.

    Args:
        labels: the classes of each image. Their order decides with the seed: sort the images first.
        fractions: of each part; they add up to 1.
        seed: of the draw.
        groups: the group of each image; images of one group come into one part.
        stratify: share out every class by the fractions; without it only the images.

    Raises:
        UserError: fractions that do not add up to 1, fewer images or groups than parts, or a part without an image.
    """
    if not (min(fractions, default=0) > 0 and abs(sum(fractions) - 1) < 1e-6):
        raise UserError(f"--fractions {' '.join(map(str, fractions))}: they must be above 0 and add up to 1")
    units = _units(labels if stratify else [frozenset()] * len(labels), groups)
    if len(units) < len(fractions):
        what = "images" if groups is None else "groups"
        raise UserError(f"{len(units)} {what} cannot be divided into {len(fractions)} parts")
    rng = np.random.default_rng(seed)
    units = [units[i] for i in rng.permutation(len(units))]
    units.sort(key=lambda unit: -len(unit.members))  # stable: within a size the draw decides
    parts = _deal(units, np.asarray(fractions, float), rng)
    for number, fraction in enumerate(fractions):
        if not parts[number]:
            raise UserError(f"the part with the fraction {fraction} would have none of {len(labels)} images; raise it")
    return [sorted(parts[number]) for number in range(len(fractions))]


def _units(labels: Sequence[frozenset[int]], groups: Sequence[str] | None) -> list[_Unit]:
    units: dict[object, _Unit] = defaultdict(_Unit)
    for index, classes in enumerate(labels):
        unit = units[index if groups is None else groups[index]]
        unit.members.append(index)
        unit.labels.update(classes)
    return list(units.values())


def _deal(units: list[_Unit], fractions: np.ndarray, rng: np.random.Generator) -> dict[int, list[int]]:
    wanted = fractions * sum(len(unit.members) for unit in units)  # images that each part still lacks
    totals: Counter = Counter()
    for unit in units:
        totals.update(unit.labels)
    lacking = {name: fractions * count for name, count in totals.items()}  # of each class
    left: dict[int, _Unit] = dict(enumerate(units))
    holders: dict[int, list[int]] = defaultdict(list)
    for number, unit in left.items():
        for name in unit.labels:
            holders[name].append(number)
    parts: dict[int, list[int]] = defaultdict(list)

    def deal(number: int, lacks: np.ndarray) -> None:
        unit = left.pop(number)
        best = np.flatnonzero(np.isclose(lacks, lacks.max(), rtol=0, atol=1e-9))
        best = best[np.isclose(wanted[best], wanted[best].max(), rtol=0, atol=1e-9)]
        part = int(best[0] if len(best) == 1 else rng.choice(best))
        parts[part] += unit.members
        wanted[part] -= len(unit.members)
        for name, count in unit.labels.items():
            lacking[name][part] -= count
            totals[name] -= count

    while unshared := [name for name, count in totals.items() if count > 0]:
        name = min(unshared, key=lambda name: (totals[name], name))
        for number in holders[name]:
            if number in left:
                deal(number, lacking[name])
    for number in list(left):
        deal(number, wanted)
    return parts
