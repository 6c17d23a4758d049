"""Twenty training steps of each family beside stock Detectron2's losses: recorded, and live in `make parity`.

Made pictures are compared both ways, photographs live only, since the repository holds none. The learning rates
at which the curves stay together are low; `cases/training.py` says which and why.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rcnnkit.engine_choice import engine_line
from tests.golden.cases import training

RECORDED = Path(__file__).parent / "recorded_training"
RELATIVE = 1e-4


def largest_deviation(found: dict, wanted: dict) -> float:
    """Of all steps and losses; relative to the loss, or to a thousandth where the loss is smaller than that."""
    assert list(found) == list(wanted)
    deviations = [
        np.abs(np.array(found[name]) - np.array(wanted[name])) / np.maximum(np.abs(wanted[name]), 1e-3)
        for name in wanted
    ]
    return float(np.max(deviations))


@pytest.mark.parametrize(
    "case", ["training_faster_FPN", *(pytest.param(c, marks=pytest.mark.slow) for c in list(training.CASES)[1:])]
)
def test_follows_the_recorded_losses_of_stock(case):
    found, wanted = training.CASES[case](), json.loads((RECORDED / f"{case}.json").read_text())
    assert all(len(curve) == training.STEPS for curve in wanted.values())
    assert largest_deviation(found, wanted) < RELATIVE


def curves_of_stock(folder: Path, repository: Path, cases: list[str]) -> Path:
    """The curves of stock Detectron2, computed now in a process of its own; returns the folder they are in."""
    assert engine_line().startswith("engine: builtin"), "parity compares the built-in engine: unset RCNNKIT_ENGINE"
    paths = filter(None, (os.environ.get("RCNNKIT_STOCK"), os.environ.get("PYTHONPATH")))
    environment = {**os.environ, "RCNNKIT_ENGINE": "detectron2", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.golden.record", str(folder), *cases]
    result = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True, check=False)
    if "Detectron2 is not installed" in result.stderr:
        pytest.skip("stock Detectron2 is not on the path: make parity STOCK_DETECTRON2=/folder/with/detectron2")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def live(tmp_path_factory, repository) -> Path:
    return curves_of_stock(tmp_path_factory.mktemp("stock_training"), repository, list(training.CASES))


@pytest.fixture(scope="module")
def live_on_photographs(tmp_path_factory, repository, real_data) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RCNNKIT_TEST_DATA", str(real_data))
        folder = tmp_path_factory.mktemp("stock_photographs")
        yield curves_of_stock(folder, repository, list(training.ON_PHOTOGRAPHS))


@pytest.mark.parity
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", list(training.CASES))
def test_follows_stock_live(case, live):
    wanted = json.loads((live / f"{case}.json").read_text())
    assert largest_deviation(training.CASES[case](), wanted) < RELATIVE


@pytest.mark.parity
@pytest.mark.realdata
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", list(training.ON_PHOTOGRAPHS))
def test_follows_stock_live_on_photographs(case, live_on_photographs):
    wanted = json.loads((live_on_photographs / f"{case}.json").read_text())
    found = training.ON_PHOTOGRAPHS[case]()
    assert all(len(curve) == training.STEPS for curve in found.values())
    assert largest_deviation(found, wanted) < RELATIVE
