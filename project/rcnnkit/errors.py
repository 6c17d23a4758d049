"""The one exception that the command line turns into one line on stderr and exit status 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Input that a person has to mend. The message is one line: file, id, field, value, what to do."""

    def __init__(self, message: str):
        # torch makes the error of a loader's worker process anew, with that process's traceback before the message
        own = str(message).rpartition(f"{__name__}.{type(self).__name__}: ")[2]
        super().__init__(" ".join(own.split()))


def nearest(name: str, known: Iterable[str], count: int = 5) -> list[str]:
    """The known names closest in spelling to `name`, best first; the alphabetical first ones where none is close."""
    known = sorted(known)
    lowered = {entry.lower(): entry for entry in reversed(known)}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=count, cutoff=0.4)
    return [lowered[entry] for entry in close] or known[:count]
