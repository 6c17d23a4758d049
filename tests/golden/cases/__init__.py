"""Cases that run on either engine: name → function without arguments that returns arrays or plain values by name."""

from collections.abc import Callable


def all_cases() -> dict[str, Callable[[], dict]]:
    """Every case, in the order in which it is recorded."""
    from tests.golden.cases import augmented_inference, lazy_zoo, models, parts, recipes, zoo

    return {**parts.CASES, **recipes.CASES, **zoo.CASES, **lazy_zoo.CASES, **models.CASES, **augmented_inference.CASES}
