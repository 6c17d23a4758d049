"""The report of versions and devices."""

import torch

from detectron2.utils.collect_env import _version_and_place, collect_env_info


def test_report(monkeypatch):
    monkeypatch.setenv("DETECTRON2_ENV_MODULE", "my.module")
    report = collect_env_info()
    for part in ("detectron2", f"{torch.__version__} @", "my.module", "GPU available", "PyTorch built with"):
        assert part in report
    (operators,) = [line for line in report.splitlines() if line.startswith("torchvision operators")]
    assert "load" in operators and "do not" not in operators


def test_a_missing_library_is_a_line_not_an_error():
    assert _version_and_place("no_such_library").startswith("does not import: ModuleNotFoundError")
