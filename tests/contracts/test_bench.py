"""`make bench` runs and writes what it promises; its tiny sizes say nothing about speed."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository):
    """The finished process and the folder that it wrote to; the peers are those that any installation has."""
    folder = tmp_path_factory.mktemp("bench")
    environment = {**os.environ, "RCNNKIT_STOCK": ""}
    command = [sys.executable, "tools/bench.py", "--quick", "--threads", "1", "--output", str(folder)]
    command += ["--docs", str(folder / "page.md")]
    process = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True, check=False)
    return process, folder


def test_rows_of_every_measurement_with_ratios(finished):
    process, folder = finished
    assert process.returncode == 0, process.stdout + process.stderr
    rows = {(row["work"], row["peer"]): row for row in json.loads((folder / "bench.json").read_text())["rows"]}
    expected = {
        ("inference", "builtin"),
        ("inference", "torchvision"),
        ("training", "builtin"),
        ("training", "torchvision"),
        ("mapper", "builtin"),
        ("evaluation", "builtin"),
        ("evaluation", "pycocotools"),
        ("registration", "builtin"),
        ("registration", "pycocotools"),
        ("check", "builtin"),
        ("workers", "builtin"),
    }
    assert expected <= set(rows)
    for row in rows.values():
        assert 0 < row["min_s"] <= row["median_s"] <= row["max_s"]
        assert row["builtin_is_times_as_fast"] > 0


def test_metrics_agree_with_pycocotools(finished):
    assert json.loads((finished[1] / "bench.json").read_text())["largest_metric_difference"] < 1e-9


def test_data_of_registration_check_and_workers(finished):
    facts = json.loads((finished[1] / "bench.json").read_text())["facts"]
    assert facts["registration"]["builtin"] == facts["registration"]["pycocotools"] == {"images": 40, "objects": 200}
    assert facts["check"]["builtin"]["problems"] == 0
    assert facts["workers"]["builtin"]["workers"] == 4


def test_page_holds_table_and_conditions(finished):
    page = (finished[1] / "page.md").read_text()
    assert "| training mapper | built-in engine |" in page
    assert "CPU cores" in page
    assert page.splitlines()[0] == "# Benchmarks"
