"""Cases that run on either engine: name → function without arguments that returns a dictionary of arrays or plain values."""

from collections.abc import Callable


def all_cases() -> dict[str, Callable[[], dict]]:
    """Every case, in the order in which it is recorded."""
    from tests.golden.cases import models, parts, recipes

    return {**parts.CASES, **recipes.CASES, **models.CASES}
