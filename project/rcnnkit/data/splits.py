"""What the names of a folder's parts say: which is the training part, and which are labellings of the same images."""

import re

from rcnnkit.errors import UserError, nearest

_ROLES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "minival": "val", "dev": "val",
    "test": "test", "testing": "test", "testdev": "test",
    "trainval": "trainval",
}  # fmt: skip
# How COCO's files are called: the task before the part.
_TASKS = ("instances", "person_keypoints", "keypoints", "captions", "panoptic", "stuff", "image_info")


def role(name: str) -> str | None:
    """`train`, `val`, `test` or `trainval`, if exactly one of these is said by the name's words; years are ignored.

    `valid`, `val2017`, `instances_val2017` and `parts-validation` are all `val`.
    """
    words = re.findall(r"[a-z]+", name.lower())
    roles = {_ROLES[word] for word in words if word in _ROLES}
    return roles.pop() if len(roles) == 1 else None


def without_task(name: str) -> str:
    """The name without COCO's task: `instances_val2017` and `person_keypoints_val2017` are both `val2017`."""
    for task in _TASKS:
        if name.startswith(f"{task}_"):
            return name[len(task) + 1 :]
    return name


def labellings(names: list[str]) -> dict[str, list[str]]:
    """The parts of a folder, each with the names of its labellings, in the order in which they come."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(without_task(name), []).append(name)
    return parts


def preferred(names: list[str], keypoints: bool = False) -> str:
    """Of several labellings of the same images, the one to take: objects', or with `keypoints` persons' keypoints."""
    wanted = "keypoints" if keypoints else "instances"
    return next((name for name in names if wanted in name), names[0])


def is_divided(names: list[str]) -> bool:
    """Whether these are parts of a data set; otherwise they are several labellings of the whole."""
    return any(role(name) in ("train", "val", "test") for name in names)


def choose(names: list[str], asked: str, where: str, keypoints: bool = False) -> str:
    """The part of a divided folder that `asked` means.

    Args:
        names: the parts, as the folder says them.
        asked: one of them; its name without COCO's task; or `train`, `val` (`valid`, `validation`) or `test`.
        where: the folder, for the message.
        keypoints: which of several labellings of one part is taken.

    Raises:
        UserError: no part is meant, or more than one.
    """
    if asked in names:
        return asked
    parts = labellings(names)
    if asked in parts:
        return preferred(parts[asked], keypoints)
    meant = [part for part in parts if role(part) == _ROLES.get(asked.lower())] if asked.lower() in _ROLES else []
    if len(meant) == 1:
        return preferred(parts[meant[0]], keypoints)
    if meant:
        raise UserError(f"{where}@{asked}: may be {' or '.join(meant)}; name one of them")
    listed = ", ".join(nearest(asked, names, 8))
    raise UserError(f"{where}@{asked}: the data set has no part {asked!r}; it has {listed}")
