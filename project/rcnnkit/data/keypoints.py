"""The keypoints of a data set as metadata: names, the pairs that a mirrored image swaps, connections, OKS sigmas.

Classes may have skeletons of their own. A model has one list of keypoints, so theirs are united by name, in the
order of the classes; an object has visibility 0 in the points that its class does not have.
"""

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence

from rcnnkit.data.labelled import Skeleton
from rcnnkit.errors import UserError, nearest

# Words that say a side, left before right; corners and wheels are often abbreviated with two letters.
SIDES = (("left", "right"), ("l", "r"), ("lt", "rt"), *((f"{a}l", f"{a}r") for a in "tbulfr"))
_MIRRORED = {**dict(SIDES), **{right: left for left, right in SIDES}}
_WORDS = ("left", "right")

# Of pycocotools.cocoeval.Params: how far two people's marks of the same point lie apart, as a fraction of the square
# root of the object's area. https://cocodataset.org/#keypoints-eval
_COCO_SIGMAS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
# The median of COCO's 17: for a point that nobody has measured, neither the strictness of an eye nor a hip's leniency.
DEFAULT_SIGMA = 0.072


def flip_map(
    names: Sequence[str], pairs: Iterable[tuple[int | str, int | str]] | None = None
) -> tuple[tuple[str, str], ...]:
    """The pairs of keypoints that change places in a mirrored image, left before right.

    Args:
        names: of the keypoints.
        pairs: the pairs as names or indices; None: inferred from left and right in the names, in any of the usual
            spellings (left_eye, leftEye, "left eye", LEye, l_eye, eye.left, leftear, top_left, tl ...).

    Raises:
        UserError: a pair of a name that is not there, or a name that is paired twice or with itself.
    """
    if pairs is not None:
        return _checked_pairs(names, [(_name(names, a), _name(names, b)) for a, b in pairs])
    index = {_words(name): name for name in reversed(names)}
    found: dict[str, str] = {}
    for name in names:
        if name in found:
            continue
        mirrored = (index.get(words) for words, _ in _mirrored(_words(name)))
        partner = next((other for other in mirrored if other and other != name and other not in found), None)
        if partner is not None:
            found[name], found[partner] = partner, name
    ordered = (name for name in names if name in found)
    return tuple((name, found[name]) for name in ordered if not _is_right(name, found[name], names))


def unpaired(names: Sequence[str]) -> list[str]:
    """Names that clearly say left or right, but whose other side is not among the names."""
    paired = {name for pair in flip_map(names) for name in pair}
    return [name for name in names if name not in paired and any(clear for _, clear in _mirrored(_words(name)))]


def sigmas(names: Sequence[str]) -> list[float]:
    """Per-keypoint standard deviations for the object keypoint similarity (a fraction of √area).

    COCO's own for COCO's names, in any spelling and on either side; `DEFAULT_SIGMA` for all others.
    """
    return [_COCO_SIGMAS.get(_without_side(name), DEFAULT_SIGMA) for name in names]


def keypoint_metadata(skeletons: Mapping[int, Skeleton], classes: Sequence[str]) -> dict:
    """Detectron2's metadata of keypoints; empty where no class has any.

    Args:
        skeletons: by class index.
        classes: names of the classes.

    Returns:
        `keypoint_names` (tuple of str: of all classes, united by name), `keypoint_flip_map` (pairs of names),
        `keypoint_connection_rules` (name, name, RGB 0 … 255; the colours go round the hue circle), and
        `keypoint_classes`: per class name the indices into `keypoint_names` of its points, in its own order.

    Raises:
        UserError: a name that two classes pair differently, or a class that names a point twice.
    """
    skeletons = {index: skeletons[index] for index in sorted(skeletons) if skeletons[index].names}
    if not skeletons:
        return {}
    names = tuple(dict.fromkeys(name for skeleton in skeletons.values() for name in skeleton.names))
    position = {name: number for number, name in enumerate(names)}
    for index, skeleton in skeletons.items():
        if len(set(skeleton.names)) < len(skeleton.names):
            twice = next(name for name in skeleton.names if skeleton.names.count(name) > 1)
            raise UserError(f"class {classes[index]!r}: names the keypoint {twice!r} twice; rename one")
    flipped: dict[frozenset[str], tuple[str, str]] = {}
    for skeleton in skeletons.values():
        for pair in flip_map(skeleton.names, skeleton.flip_pairs):
            flipped.setdefault(frozenset(pair), pair)
    limbs: dict[frozenset[str], tuple[str, str]] = {}
    for skeleton in skeletons.values():
        for a, b in skeleton.edges:
            if min(a, b) >= 0 and max(a, b) < len(skeleton.names):
                limb = (skeleton.names[a], skeleton.names[b])
                limbs.setdefault(frozenset(limb), limb)
    return {
        "keypoint_names": names,
        "keypoint_flip_map": _checked_pairs(names, list(flipped.values())),
        "keypoint_connection_rules": [(a, b, _hue(i / len(limbs))) for i, (a, b) in enumerate(limbs.values())],
        "keypoint_classes": {
            classes[index]: tuple(position[name] for name in skeleton.names) for index, skeleton in skeletons.items()
        },
    }


def unite_keypoints(records: Iterable[dict], classes: Sequence[str], metadata: Mapping) -> None:
    """Put the keypoints of each annotation, in place, from its class's order into that of `keypoint_names`.

    Args:
        records: as in `LabelledData`; each class's points in its own order. Lists of another length stay as they are.
        classes: names of the classes.
        metadata: what `keypoint_metadata` returned.
    """
    count = len(metadata.get("keypoint_names", ()))
    same = tuple(range(count))
    indices = [metadata.get("keypoint_classes", {}).get(name, same) for name in classes]
    if all(places == same for places in indices):
        return
    for record in records:
        for annotation in record["annotations"]:
            points, places = annotation.get("keypoints"), indices[annotation["category_id"]]
            if points is None or places == same or len(points) != 3 * len(places):
                continue
            united = [0.0] * (3 * count)
            for source, target in enumerate(places):
                united[3 * target : 3 * target + 3] = points[3 * source : 3 * source + 3]
            annotation["keypoints"] = united


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: "leftEye", "left_eye" and "Left eye" have the same."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(word.lower() for word in re.findall(r"[^\W_]+", parted))


def _mirrored(words: tuple[str, ...]) -> list[tuple[tuple[str, ...], bool]]:
    """What the other side's name may be, the surest first, and whether the name says a side beyond doubt."""
    found = []
    for number, word in enumerate(words):
        for rank, (other, clear) in enumerate(_other_side(word)):
            if other:
                found.append((rank, (words[:number] + (other,) + words[number + 1 :], clear)))
    return [entry for _, entry in sorted(found, key=lambda ranked: ranked[0])]


def _other_side(word: str) -> list[tuple[str | None, bool]]:
    """The mirrored word by each rule; None where the rule says nothing about the word."""
    starts = next((side for side in _WORDS if word.startswith(side)), None)
    ends = next((side for side in _WORDS if word.endswith(side)), None)
    return [
        (_MIRRORED.get(word), word in _WORDS or word in ("l", "r")),
        (_MIRRORED[starts] + word[len(starts) :] if starts else None, True),
        (word[: -len(ends)] + _MIRRORED[ends] if ends else None, False),
        (_MIRRORED[word[0]] + word[1:] if word[0] in "lr" and len(word) > 1 else None, False),
    ]


def _is_right(name: str, partner: str, names: Sequence[str]) -> bool:
    """Whether `name` is the right one of its pair: its word is later in `SIDES`' order at the first difference."""
    for own, other in zip(_words(name), _words(partner), strict=True):
        if own != other:
            position = next(i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b)
            return own[position] == "r"
    return names.index(name) > names.index(partner)


def _without_side(name: str) -> str:
    words = _words(name)
    kept = " ".join(word for word in words if word not in _MIRRORED)
    if kept in _COCO_SIGMAS:
        return kept
    for side in (*_WORDS, "l", "r"):
        if kept.startswith(side) and kept[len(side) :] in _COCO_SIGMAS:
            return kept[len(side) :]
    return kept


def _name(names: Sequence[str], entry: int | str) -> str:
    if isinstance(entry, str) and entry in names:
        return entry
    if type(entry) is int and 0 <= entry < len(names):
        return names[entry]
    close = ", ".join(nearest(str(entry), names, 3))
    raise UserError(f"flip pair: there is no keypoint {entry!r} among {len(names)}; nearest: {close}")


def _checked_pairs(names: Sequence[str], pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    partner: dict[str, str] = {}
    for a, b in pairs:
        for name, other in ((a, b), (b, a)):
            if name == other:
                raise UserError(f"flip pair: the keypoint {name!r} is paired with itself; leave it out")
            if name in partner:
                raise UserError(
                    f"flip pair: the keypoint {name!r} is paired with both {partner[name]!r} and {other!r}; keep one"
                )
            partner[name] = other
    return tuple(pairs)


def _hue(fraction: float) -> tuple[int, int, int]:
    """A saturated RGB colour (0 … 255) at a fraction of the hue circle."""
    red, green, blue = colorsys.hsv_to_rgb(fraction, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
