"""The same cases, computed now by stock Detectron2 in a process of its own: `make parity STOCK_DETECTRON2=/folder`."""

import os
import subprocess
import sys

import pytest
import torch

from rcnnkit.engine_choice import engine_line
from tests.golden.cases import all_cases
from tests.golden.compare import differences
from tests.golden.record import load

pytestmark = pytest.mark.parity


@pytest.fixture(scope="session")
def live(tmp_path_factory, repository):
    """The folder with the results of stock Detectron2."""
    assert engine_line().startswith("engine: builtin"), "parity compares the built-in engine: unset RCNNKIT_ENGINE"
    folder = tmp_path_factory.mktemp("stock")
    environment = {**os.environ, "RCNNKIT_ENGINE": "detectron2"}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, (os.environ.get("RCNNKIT_STOCK"), os.environ.get("PYTHONPATH")))
    )
    command = [sys.executable, "-W", "ignore", "-m", "tests.golden.record", str(folder)]
    result = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True, check=False)
    if "Detectron2 is not installed" in result.stderr:
        pytest.skip("stock Detectron2 is not on the path: make parity STOCK_DETECTRON2=/folder/with/detectron2")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", list(all_cases()))
def test_equals_stock_live(case, live):
    torch.manual_seed(0)
    assert differences(case, all_cases()[case](), load(live, case)) == []
