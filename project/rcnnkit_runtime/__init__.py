"""The built-in engine: an implementation of Detectron2's public API for the R-CNN family, without a compiler.

`activate()` makes `import detectron2` find the package in this folder. Any Detectron2 project runs on it with
`PYTHONPATH=$(python -m rcnnkit_runtime path)`.
"""

import sys
from pathlib import Path

ENGINE_ROOT = Path(__file__).resolve().parent


def activate(first: bool = False) -> None:
    """Put the folder that holds the built-in `detectron2` on `sys.path`.

    Args:
        first: before all other folders, so that it hides an installed Detectron2; last otherwise.
    """
    folder = str(ENGINE_ROOT)
    if first:
        sys.path[:] = [folder] + [entry for entry in sys.path if entry != folder]
    elif folder not in sys.path:
        sys.path.append(folder)
