"""Ratios by hand, turns in order, and a real measurement of two small configs."""

import importlib.util
from pathlib import Path

import pytest
import torch

from detectron2.utils.events import EventStorage

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("step_time", REPOSITORY / "tools" / "step_time.py")
step_time = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(step_time)


def test_ratios_are_of_the_same_turn():
    """Turns of 1, 2 and 4 s beside 2, 3 and 4 s: ratios 2, 1.5 and 1, of which 1.5 is the median."""
    text = step_time.report("steps", ["a", "b"], [[1.0, 2.0, 4.0], [2.0, 3.0, 4.0]])
    assert "| `a` | 2.0000 | 1.00 (1.00 to 1.00) |" in text
    assert "| `b` | 3.0000 | 1.50 (1.00 to 2.00) |" in text


def test_all_take_turns():
    order = []
    works = [lambda: order.append("a"), lambda: order.append("b")]
    seconds = step_time.take_turns(works, rounds=2, repeats=2)
    assert order == ["a", "a", "b", "b"] * 2
    assert [len(own) for own in seconds] == [2, 2]


@pytest.mark.slow
def test_a_head_alone(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    config = "configs/quick/mask_rcnn_R_18_FPN_shapes.yaml"
    told = ["--module", "roi_heads.mask_head", "--rounds", "5", "--repeats", "1"]
    assert step_time.main([config, config, *told]) == 0
    out = capsys.readouterr().out
    assert "forward and backward" in out and "inference" in out and out.count("`mask_rcnn_R_18_FPN_shapes`") == 4


@pytest.mark.slow
def test_a_module_that_is_not_there(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert step_time.main(["configs/quick/mask_rcnn_R_18_FPN_shapes.yaml", "--module", "roi_heads.masc_head"]) == 2
    assert "roi_heads.masc_head" in capsys.readouterr().err


@pytest.mark.slow
def test_a_module_that_is_no_head(capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert step_time.main(["configs/quick/mask_rcnn_R_18_FPN_shapes.yaml", "--module", "roi_heads"]) == 2
    assert "--module roi_heads: give a head" in capsys.readouterr().err


@pytest.mark.parametrize("told", [["--rounds", "4"], ["--repeats", "0"]])
def test_too_few_to_measure(told, capsys):
    assert step_time.main(["configs/quick/mask_rcnn_R_18_FPN_shapes.yaml", *told]) == 2
    assert "at least 5 --rounds" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_all_get_the_same_batches(workers, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    configs = [f"configs/quick/mask_rcnn_R_18_FPN_shapes{kind}.yaml" for kind in ("", "_quality")]
    overrides = ["DATALOADER.NUM_WORKERS", workers, "INPUT.MIN_SIZE_TRAIN", "(96, 128, 160)"]
    seen = []
    for config in configs:
        one = step_time.Contestant(config, overrides)
        batches = []
        one.model.register_forward_pre_hook(lambda _, arguments, kept=batches: kept.append(arguments[0]))
        with EventStorage(0):
            for _ in range(4):
                one.step()
        seen.append([item["image"] for batch in batches for item in batch])
    assert len(seen[0]) == len(seen[1]) and all(map(torch.equal, *seen))
