"""Comparison with torch's version."""

import torch
from packaging import version

__all__ = ["min_torch_version"]


def min_torch_version(min_version: str) -> bool:
    """Whether torch is at least of a version, such as "1.9" (previews of it included)."""
    installed = version.parse(torch.__version__)
    return version.parse(installed.base_version) >= version.parse(min_version)
