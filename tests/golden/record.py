r"""Record the golden cases on the engine that is active.

    RCNNKIT_ENGINE=detectron2 PYTHONPATH=/folder/with/detectron2 \
        python -m tests.golden.record tests/golden/recorded [CASE ...]

writes one file a case: `.npz` where it holds arrays, `.json` otherwise. The files in the repository were recorded on
stock Detectron2.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

import rcnnkit  # noqa: F401  chooses the engine
from rcnnkit.engine_choice import engine_line
from tests.golden.cases import all_cases, training


def record(folder: Path, names: list[str]) -> None:
    """Compute the named cases (all where none is named) and write them to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = {**all_cases(), **training.CASES, **training.ON_PHOTOGRAPHS}
    for name in names or list(all_cases()):
        torch.manual_seed(0)
        values = cases[name]()
        if all(isinstance(value, np.ndarray) for value in values.values()):
            np.savez_compressed(folder / f"{name}.npz", **values)
        else:
            (folder / f"{name}.json").write_text(json.dumps(values, indent=1))
        print(f"{name}: {len(values)} values", flush=True)


def load(folder: Path, name: str) -> dict:
    """Read back what `record` wrote."""
    arrays = folder / f"{name}.npz"
    if arrays.is_file():
        with np.load(arrays) as content:
            return dict(content)
    return json.loads((folder / f"{name}.json").read_text())


if __name__ == "__main__":
    print(engine_line())
    record(Path(sys.argv[1]), sys.argv[2:])
