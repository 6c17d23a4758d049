"""This engine against numbers recorded on stock Detectron2 (see record.py)."""

from pathlib import Path

import pytest
import torch

from rcnnkit.engine_choice import activate_engine
from tests.golden.cases import all_cases
from tests.golden.cases.models import SLOW
from tests.golden.compare import differences
from tests.golden.record import load

RECORDED = Path(__file__).parent / "recorded"
CASES = [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in all_cases()]


@pytest.mark.parametrize("case", CASES)
def test_equals_stock(case):
    torch.manual_seed(0)
    assert differences(case, all_cases()[case](), load(RECORDED, case)) == []


@pytest.mark.skipif(activate_engine() != "builtin", reason="the fast convolution is the built-in engine's")
@pytest.mark.parametrize("case", ["inference_faster_R50_FPN", "inference_mask_R50_FPN", "inference_mask_R50_C4"])
def test_equals_stock_by_the_fast_convolution(case, monkeypatch):
    # The images are too small for it: without this, only the mask head's convolutions would go that way.
    from detectron2.layers import winograd

    channels = []

    def convolve(x, weight, bias, convolve=winograd.convolve):
        channels.append(weight.shape[1])
        return convolve(x, weight, bias)

    monkeypatch.setattr(winograd, "MIN_TILES", 0)
    monkeypatch.setattr(winograd, "convolve", convolve)
    assert differences(case, all_cases()[case](), load(RECORDED, case)) == []
    assert {128, 256} <= set(channels)
    assert ("C4" in case) == (1024 in channels)  # the RPN's


def test_every_recorded_file_belongs_to_a_case():
    assert {path.stem for path in RECORDED.iterdir()} == set(all_cases())


@pytest.mark.parametrize(("case", "millions"), [("keys_faster_R50_FPN", 41.8), ("keys_mask_R50_FPN", 44.4)])
def test_number_of_values_in_the_state_dict(case, millions):
    total = sum(int(torch.tensor(shape).prod()) for shape in load(RECORDED, case)["shapes"])
    assert round(total / 1e6, 1) == millions
