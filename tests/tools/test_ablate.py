"""The comparison of configs: numbers of runs, means by hand, what is reused and what is refused."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("ablate", Path(__file__).resolve().parents[2] / "tools" / "ablate.py")
ablate = sys.modules["ablate"] = importlib.util.module_from_spec(SPEC)  # dataclasses look their module up
SPEC.loader.exec_module(ablate)
PLAN = """
tables:
  - title: "Heads"
    metrics: ["segm/AP"]
    rows:
      - {name: "plain", config: "a.yaml"}
      - {name: "sharp", config: "b.yaml", overrides: ["SOLVER.MAX_ITER", 5]}
"""
VALUES = {"plain": [60.0, 62.0], "sharp": [63.0, 64.0]}  # means 61 and 63.5, deviations √2 and √½


@pytest.fixture
def plan(tmp_path):
    """A plan of which every run is on file."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    for name, values in VALUES.items():
        (tmp_path / "out" / name).mkdir(parents=True)
        of = {"config": "a.yaml", "overrides": []}
        if name == "sharp":
            of = {"config": "b.yaml", "overrides": ["SOLVER.MAX_ITER", "5"]}
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
    plan.write_text(PLAN.replace("a.yaml", "c.yaml"))
    assert compare(plan, "--seeds", "1") == 2
    told = capsys.readouterr().err
    assert "a.yaml" in told and "delete" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [("tables: 3", "is no plan"), (PLAN.replace('"sharp"', '"plain"'), "rename"), ("a: [", "is no plan")],
)
def test_what_is_no_plan(plan, content, told, capsys):
    plan.write_text(content)
    assert compare(plan) == 2 and told in capsys.readouterr().err


def test_a_run_that_fails_is_told(plan, capsys):
    assert compare(plan, "--seeds", "3") == 2  # not on file; a.yaml does not exist
    assert "a.yaml" in capsys.readouterr().err and not (plan.parent / "out/plain/seed3.json").exists()
