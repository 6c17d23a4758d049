"""The comparison of configs: numbers of runs, means by hand, what is reused and what is refused."""

import importlib.util
import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

SPEC = importlib.util.spec_from_file_location("ablate", Path(__file__).resolve().parents[2] / "tools" / "ablate.py")
ablate = sys.modules["ablate"] = importlib.util.module_from_spec(SPEC)  # dataclasses look their module up
SPEC.loader.exec_module(ablate)
PLAN = """
tables:
  - title: "Heads"
    metrics: ["segm/AP"]
    rows:
      - {name: "plain", config: "FOLDER/a.yaml"}
      - {name: "sharp", config: "FOLDER/b.yaml", overrides: ["SOLVER.MAX_ITER", 5]}
"""
VALUES = {"plain": [60.0, 62.0], "sharp": [63.0, 64.0]}  # means 61 and 63.5, deviations √2 and √½


@pytest.fixture
def plan(tmp_path):
    """A plan of which every run is on file."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("FOLDER", str(tmp_path)))
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("SOLVER:\n  BASE_LR: 0.5\n")
    for name, values in VALUES.items():
        (tmp_path / "out" / name).mkdir(parents=True)
        of = {"config": f"{tmp_path}/a.yaml", "overrides": [], "settings": {"SOLVER.BASE_LR": "0.5"}}
        if name == "sharp":
            settings = {**of["settings"], "SOLVER.MAX_ITER": "5"}
            of = {"config": f"{tmp_path}/b.yaml", "overrides": ["SOLVER.MAX_ITER", "5"], "settings": settings}
        for seed, value in enumerate(values, start=1):
            numbers = {"segm/AP": value, "seconds": 0.25, "values": 1_250_000}
            (tmp_path / "out" / name / f"seed{seed}.json").write_text(json.dumps({"of": of, "numbers": numbers}))
    return path


def compare(plan, *arguments):
    return ablate.main([str(plan), "--output", str(plan.parent / "out"), *arguments])


def test_means_deviations_and_differences(plan):
    assert compare(plan, "--seeds", "1", "2") == 0
    text = (plan.parent / "out" / "plan.md").read_text()
    assert "| `plain` | 61.00 ± 1.41 |  | 0.250 ± 0.000 | 1.25 |" in text
    assert "| `sharp` | 63.50 ± 0.71 | +2.50 | 0.250 ± 0.000 | 1.25 |" in text
    assert (plan.parent / "out" / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_of_another_config_are_refused(plan, capsys):
    (plan.parent / "c.yaml").write_text("SOLVER:\n  BASE_LR: 0.5\n")
    plan.write_text(plan.read_text().replace("a.yaml", "c.yaml"))
    assert compare(plan, "--seeds", "1") == 2
    told = capsys.readouterr().err
    assert "a.yaml" in told and "delete" in told


def test_numbers_of_a_config_that_has_changed_are_refused(plan, capsys):
    (plan.parent / "b.yaml").write_text("SOLVER:\n  BASE_LR: 0.25\n")
    assert compare(plan, "--seeds", "1") == 2
    assert "sharp/seed1.json: SOLVER.BASE_LR was 0.5 and is 0.25; delete" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0.5", "0.25"])
def test_an_interrupted_run_goes_on_with_the_same_config_only(plan, value, capsys, monkeypatch):
    file = plan.parent / "out/sharp/seed1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "numbers": {}}))
    (plan.parent / "b.yaml").write_text(f"SOLVER:\n  BASE_LR: {value}\n")
    asked = []
    monkeypatch.setattr(ablate.subprocess, "run", lambda command, **_: asked.append(command) or Ended())
    assert compare(plan, "--seeds", "1") == 2
    told = capsys.readouterr().err
    assert ("--resume" in asked[0] and "stopped early" in told) if value == "0.5" else (not asked and "was 0.5" in told)


class Ended:
    returncode, stderr = 1, "stopped early"


def finished(folder, *records):
    """What a finished run leaves: records of metrics.json, and 6 + 4 values."""
    (folder / "metrics.json").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    weights = {"backbone.weight": torch.zeros(2, 3), "backbone.bias": torch.zeros(4)}
    torch.save({"model": weights, "iteration": 9}, folder / "model_final.pth")


def test_each_seed_is_a_run_of_its_own(plan, monkeypatch):
    asked = []

    def train(command, **_):
        words = dict(pairwise(command))
        asked.append((words["--config-file"], words.get("SOLVER.MAX_ITER"), words["SEED"], words["OUTPUT_DIR"]))
        finished(Path(words["OUTPUT_DIR"]), {"iteration": 4, "segm/AP": 50.0 + int(words["SEED"])})
        return Succeeded()

    monkeypatch.setattr(ablate.subprocess, "run", train)
    assert compare(plan, "--seeds", "3", "7") == 0
    out = plan.parent / "out"
    rows = (("plain", "a.yaml", None), ("sharp", "b.yaml", "5"))
    assert asked == [
        (str(plan.parent / file), steps, seed, str(out / row / f"seed{seed}"))
        for seed in "37"
        for row, file, steps in rows
    ]
    stored = [json.loads((out / row / f"seed{seed}.json").read_text())["numbers"] for row in VALUES for seed in (3, 7)]
    assert [numbers["segm/AP"] for numbers in stored] == [53.0, 57.0] * 2
    assert "| `sharp` | 55.00 ± 2.83 | +0.00 |" in (out / "plan.md").read_text()  # half of 4, times √2
    assert compare(plan, "--seeds", "3", "7") == 0 and len(asked) == 4  # all are on file


class Succeeded:
    returncode, stderr = 0, ""


def test_the_numbers_of_a_run(tmp_path):
    first, last = {"bbox/AP": 10.0, "segm/AP": 20.0, "segm/AP50": 30.0}, {"bbox/AP": 11.0, "segm/AP": 22.0}
    finished(
        tmp_path,
        {"iteration": 0, "time": 0.5, "total_loss": 3.0},
        {"iteration": 1, "time": 0.25, "total_loss": 2.0, **first},
        {"iteration": 2, "time": 9.0, "total_loss": 1.0},  # a pause, which the median of the three leaves out
        {"iteration": 3, **last},
    )
    # of what was measured several times the last; losses are no metrics
    assert ablate.numbers_of(tmp_path) == {**first, **last, "seconds": 0.5, "values": 10}


def test_a_run_without_times_has_none(tmp_path):
    finished(tmp_path, {"iteration": 0, "segm/AP": 20.0})
    assert math.isnan(ablate.numbers_of(tmp_path)["seconds"])


def test_a_metric_that_is_not_there_is_told_after_the_first_run(plan, capsys):
    plan.write_text(plan.read_text().replace("segm/AP", "segm/APx"))
    assert compare(plan, "--seeds", "1", "2") == 2
    captured = capsys.readouterr()
    assert "plain: its runs give no 'segm/APx'; nearest: segm/AP" in captured.err
    assert "[2/4]" not in captured.out


def test_what_was_not_measured_is_nan(plan):
    file = plan.parent / "out/plain/seed1.json"
    file.write_text(file.read_text().replace("60.0", "NaN"))
    assert compare(plan, "--seeds", "1", "2") == 0
    assert "| `plain` | nan ± nan |" in (plan.parent / "out" / "plan.md").read_text()


def test_an_output_that_is_a_file(plan, capsys):
    (plan.parent / "taken").write_text("")
    assert ablate.main([str(plan), "--output", str(plan.parent / "taken")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [("tables: 3", "is no plan"), (PLAN.replace('"sharp"', '"plain"'), "rename"), ("a: [", "is no plan")],
)
def test_what_is_no_plan(plan, content, told, capsys):
    plan.write_text(content)
    assert compare(plan) == 2 and told in capsys.readouterr().err


def test_a_run_that_fails_is_told(plan, capsys, monkeypatch):
    monkeypatch.setattr(ablate.subprocess, "run", lambda *_, **__: Ended())
    assert compare(plan, "--seeds", "3") == 2  # not on file
    assert "seed3: the run ended with status 1: stopped early" in capsys.readouterr().err
    assert not json.loads((plan.parent / "out/plain/seed3.json").read_text())["numbers"]


def test_a_config_that_is_not_there_is_told_before_anything_is_run(plan, capsys):
    (plan.parent / "a.yaml").unlink()
    assert compare(plan, "--seeds", "3") == 2
    assert "a.yaml: no such config file" in capsys.readouterr().err
    assert not (plan.parent / "out/plain/seed3.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"of": {"config": "a.yaml", "overrides": []}, "numbers": {}}'])
def test_files_that_are_no_results_are_told(plan, content, capsys):
    (plan.parent / "out/plain/seed1.json").write_text(content)
    assert compare(plan, "--seeds", "1") == 2
    assert "seed1.json: is no result of this program; delete" in capsys.readouterr().err
