"""What is wrong with a labelled data set: one file for each matter, `run` for all of them, `repair` for what is safe.

A check is a function `(data, places, ...) -> Iterable[Problem]`; it reads records and never changes them.
"""

from rcnnkit.data.checks.run import Checked, check

__all__ = ["Checked", "check"]
