"""What a checkpoint gave to a model, tensor by tensor."""

from collections.abc import Collection
from dataclasses import dataclass, field

from fvcore.common.checkpoint import _IncompatibleKeys


@dataclass(frozen=True)
class LoadReport:
    """The model's tensors by what became of them, and what the file had besides.

    Attributes:
        loaded: the model's keys that took the file's tensor.
        missing: the model's keys that the file does not have.
        mis_shaped: the model's keys that the file has in another shape: (key, shape in the file, shape in the model).
        unexpected: the file's keys that the model does not have.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mis_shaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether model and file have the same keys and shapes."""
        return not (self.missing or self.mis_shaped or self.unexpected)

    def summary(self) -> str:
        """One line of counts."""
        total = len(self.loaded) + len(self.missing) + len(self.mis_shaped)
        return (
            f"Loaded {len(self.loaded)} of the model's {total} tensors: {len(self.missing)} missing in the file, "
            f"{len(self.mis_shaped)} of another shape, {len(self.unexpected)} of the file not used."
        )

    def __str__(self) -> str:
        lines = [self.summary()]
        lines += [f"  missing     {key}" for key in self.missing]
        lines += [f"  mis-shaped  {key}: {there} in the file, {here} here" for key, there, here in self.mis_shaped]
        lines += [f"  unexpected  {key}" for key in self.unexpected]
        return "\n".join(lines)


def make_report(model_keys: Collection[str], incompatible: _IncompatibleKeys) -> LoadReport:
    """The report of a load after which fvcore found `incompatible` keys.

    Args:
        model_keys: of the model's state dict.
    """
    # a mis-shaped tensor is left out of the loading and is therefore among the missing ones, too
    wrong = {key: (key, tuple(there), tuple(here)) for key, there, here in incompatible.incorrect_shapes}
    missing = [key for key in incompatible.missing_keys if key not in wrong]
    absent = {*missing, *wrong}
    return LoadReport(
        loaded=[key for key in model_keys if key not in absent],
        missing=missing,
        mis_shaped=list(wrong.values()),
        unexpected=list(incompatible.unexpected_keys),
    )
