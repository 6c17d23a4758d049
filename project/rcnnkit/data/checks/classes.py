"""Classes without objects, classes whose names are nearly the same, and classes that only the evaluation has."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from rcnnkit.data.checks.places import Places
from rcnnkit.data.labelled import WARNING, LabelledData, Problem
from rcnnkit.data.splits import role

_CLOSE = 0.9  # difflib's ratio: one letter of ten


def class_counts(data: LabelledData) -> Counter[str]:
    """Objects by class name; crowds and ignored ones count, classes without objects have 0."""
    counts = Counter(dict.fromkeys(data.classes, 0))
    for record in data.records:
        for annotation in record["annotations"]:
            counts[data.classes[annotation["category_id"]]] += 1
    return counts


def check_classes(parts: Mapping[str | None, LabelledData], places: Mapping[str | None, Places]) -> Iterator[Problem]:
    """Problems of the class names, over all parts."""
    counts = {split: class_counts(data) for split, data in parts.items()}
    total = sum(counts.values(), Counter())
    place: dict[str, Places] = {}  # where a class is listed first
    for split, data in parts.items():
        for name in data.classes:
            place.setdefault(name, places[split])
    for name in place:
        if not total[name]:
            advice = "no object has this class; label some, or leave the class out"
            yield place[name].of_data_set("class-unused", f"class {name}", "name", name, advice, WARNING)
        if not name.strip():
            yield place[name].of_data_set("class-without-name", None, "name", name, "give the class a name")
    yield from _same_names(parts, places)
    for first, second in near_duplicates(list(place)):
        rare, common = sorted((first, second), key=lambda name: total[name])
        advice = f"nearly the same as {common!r} ({total[common]} objects; this one {total[rare]}); if they are one "
        advice += "class, give it one name"
        yield place[rare].of_data_set("class-names-alike", f"class {rare}", "name", rare, advice, WARNING)
    yield from _not_trained(counts, places)


def _same_names(parts: Mapping[str | None, LabelledData], places: Mapping[str | None, Places]) -> Iterator[Problem]:
    for split, data in parts.items():
        for name, count in Counter(data.classes).items():
            if count > 1:
                advice = f"{count} classes have this name; rename them, or make them one"
                yield places[split].of_data_set("duplicate-class-name", f"class {name}", "name", name, advice)


def _not_trained(counts: Mapping[str | None, Counter[str]], places: Mapping[str | None, Places]) -> Iterator[Problem]:
    trained: Counter[str] = sum((count for split, count in counts.items() if _trains(split)), Counter())
    if not trained:
        return
    for split, count in counts.items():
        if _trains(split):
            continue
        for name, number in count.items():
            if number and not trained[name]:
                advice = f"{number} objects of {split} have this class, none of the training part; it cannot be learnt"
                yield places[split].of_data_set("class-not-trained", f"class {name}", "name", name, advice, WARNING)


def _trains(split: str | None) -> bool:
    return split is not None and role(split) in ("train", "trainval")


def near_duplicates(names: list[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ by case, separators, a plural's s, or a slip of the pen; numbers make a difference."""
    keys = [_key(name) for name in names]
    pairs = []
    by_length = sorted(range(len(names)), key=lambda index: len(keys[index]))
    for place, first in enumerate(by_length):
        for second in by_length[place + 1 :]:
            if len(keys[second]) > len(keys[first]) / _CLOSE + 2:  # too long for any of the ratios
                break
            if _nearly(keys[first], keys[second]):
                pairs.append((names[min(first, second)], names[max(first, second)]))
    return sorted(pairs, key=lambda pair: (names.index(pair[0]), names.index(pair[1])))


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _nearly(first: str, second: str) -> bool:
    if first == second or second in (f"{first}s", f"{first}es"):
        return True
    if re.sub(r"\D", "", first) != re.sub(r"\D", "", second):
        return False
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    return matcher.real_quick_ratio() >= _CLOSE and matcher.quick_ratio() >= _CLOSE and matcher.ratio() >= _CLOSE
