"""docs/compatibility.md and the name file are what tools/compatibility.py makes of the code."""

import importlib.util
from pathlib import Path

import pytest

from rcnnkit.engine_choice import engine_line

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "compatibility.py"


@pytest.fixture(scope="module")
def tool():
    if not engine_line().startswith("engine: builtin"):
        pytest.skip("the page describes the built-in engine")
    spec = importlib.util.spec_from_file_location("compatibility_tool", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_written_files_are_current(tool):
    assert tool.stale() == [], "run `python tools/compatibility.py write`"


@pytest.mark.parametrize(
    ("name", "supported"),
    [
        ("detectron2.structures.Instances", True),
        ("detectron2.layers.batch_norm", True),
        ("detectron2.modeling.anchor_generator.RotatedAnchorGenerator", False),
        ("detectron2.modeling.box_regression.Box2BoxTransformRotated", False),
        ("detectron2.modeling.roi_heads.BaseMaskRCNNHead", True),  # abstract, yet no refusal
        ("detectron2.no_such_module", False),
        ("detectron2.structures.NoSuchName", False),
    ],
)
def test_what_counts_as_supported(tool, name, supported):
    assert tool.is_supported(name) is supported


def test_names_that_many_projects_import_are_supported(tool):
    segmentation = ("PanopticEvaluator", "SemSegEvaluator", "Cityscapes")
    missing = [name for name, count in tool.popular() if count >= 11 and not tool.is_supported(name)]
    assert [name for name in missing if not any(part in name for part in segmentation)] == []
