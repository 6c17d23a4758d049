"""The interface of a reader: one file of this folder for each data format."""

from __future__ import annotations

from typing import Protocol

from rcnnkit.data.labelled import LabelledData, ProblemLog
from rcnnkit.data.tree import Tree


class Reader(Protocol):
    """Reads one data format. A reader has no state; it is called in this order."""

    name: str  # what `format:` in a config says, such as "voc"

    def recognise(self, tree: Tree) -> str | None:
        """What in the folder (or the single annotation file) shows this format, in words; None where nothing does.

        It looks at names and the beginning of at most a few files: cheap on any folder.
        """

    def splits(self, tree: Tree) -> list[str]:
        """Names of the parts into which the folder is divided, as the folder says them; empty where it is not."""

    def read(self, tree: Tree, split: str | None, problems: ProblemLog) -> LabelledData:
        """Read one split, or all of them.

        Args:
            split: one of `splits(tree)`; None: everything.
            problems: takes what cannot be part of a record.

        Raises:
            UserError: nothing can be read at all.
        """
