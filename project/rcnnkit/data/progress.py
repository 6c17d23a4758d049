"""A progress bar for reading that takes more than a second; only on a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, unit: str = " files") -> Iterator[Item]:
    """The items, one by one.

    Args:
        items: with a length, if there is one: then the bar has an end.
        what: is done, such as "reading labels".
        unit: of the items.
    """
    return iter(tqdm(items, desc=what, unit=unit, leave=False, disable=None, delay=1))
