"""The comparison of configs: numbers of runs, means by hand, what is reused and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
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


def ablate(plan, *arguments):
    command = [sys.executable, "tools/ablate.py", str(plan), "--output", str(plan.parent / "out"), *arguments]
    return subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)


def test_means_deviations_and_differences(plan):
    done = ablate(plan, "--seeds", "1", "2")
    assert done.returncode == 0, done.stderr
    text = (plan.parent / "out" / "plan.md").read_text()
    assert "| `plain` | 61.00 ± 1.41 |  | 0.250 ± 0.000 | 1.25 |" in text
    assert "| `sharp` | 63.50 ± 0.71 | +2.50 | 0.250 ± 0.000 | 1.25 |" in text
    assert (plan.parent / "out" / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_of_another_config_are_refused(plan):
    plan.write_text(PLAN.replace("a.yaml", "c.yaml"))
    done = ablate(plan, "--seeds", "1")
    assert done.returncode == 2 and "a.yaml" in done.stderr and "delete" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [("tables: 3", "is no plan"), (PLAN.replace('"sharp"', '"plain"'), "rename"), ("a: [", "is no plan")],
)
def test_what_is_no_plan(plan, content, told):
    plan.write_text(content)
    done = ablate(plan)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


def test_a_run_that_fails_is_told(plan):
    done = ablate(plan, "--seeds", "3")  # not on file; a.yaml does not exist
    assert done.returncode == 2 and "a.yaml" in done.stderr and not (plan.parent / "out/plain/seed3.json").exists()
