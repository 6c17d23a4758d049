"""`rcnnkit info` names the problem and the command that mends it."""

import pytest
import torchvision

from rcnnkit.cli import info
from rcnnkit.cli.main import main


def test_report_names_engine_versions_and_devices(capsys):
    status = main(["info"])
    printed = capsys.readouterr().out
    for word in ("engine", "torch ", "torchvision ", "faster-coco-eval ", "cpu threads"):
        assert word in printed
    assert status == (0 if "problems: none" in printed else 1)


def test_mixed_opencv_builds_are_a_problem():
    (problem,) = info.check_opencv(["opencv-python", "opencv-python-headless"])
    assert "pip uninstall -y opencv-python opencv-python-headless" in problem
    assert list(info.check_opencv(["opencv-python-headless"])) == []


def test_torchvision_without_operators_is_a_problem(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    (problem,) = info.check_torchvision_operators()
    assert "operator torchvision::nms does not exist" in problem and "pip install torch==" in problem


def test_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["trian"])
    assert stopped.value.code == 2
    assert "info" in capsys.readouterr().err
