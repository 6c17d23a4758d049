"""Reading a project's names without running it, and the command `rcnnkit compat`."""

import pytest

from rcnnkit.cli.main import main
from rcnnkit.compatibility import OUT_OF_SCOPE, SUPPORTED, UNKNOWN, nearest_known, status_of, uses_in_project

FINE = """
import detectron2.utils.comm as comm
from detectron2.data import transforms as T, MetadataCatalog
from detectron2 import model_zoo

def run(cfg):
    import detectron2.layers
    if comm.is_main_process():
        MetadataCatalog.get("x").anything_at_all
    return T.ResizeShortestEdge(3), model_zoo.get_config_file("a"), detectron2.layers.cat
"""


def project(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def names(path):
    return {use.name for use in uses_in_project(path)}


def test_follows_aliases_submodules_and_attribute_chains(tmp_path):
    assert names(project(tmp_path, fine=FINE)) == {
        "detectron2.utils.comm",
        "detectron2.utils.comm.is_main_process",
        "detectron2.data.transforms",
        "detectron2.data.transforms.ResizeShortestEdge",
        "detectron2.data.MetadataCatalog",
        "detectron2.model_zoo",
        "detectron2.model_zoo.get_config_file",
        "detectron2.layers",
        "detectron2.layers.cat",
    }


def test_says_file_and_line(tmp_path):
    (tmp_path / "inner").mkdir()
    project(tmp_path / "inner", one="import os\nfrom detectron2.config import get_cfg\n")
    (use,) = uses_in_project(tmp_path)
    assert (use.name, use.file, use.line) == ("detectron2.config.get_cfg", "inner/one.py", 2)


@pytest.mark.parametrize(
    "text",
    ["import detectron2_plus.config\n", "from .detectron2 import x\n", "import os\nos.path.join\n"],
)
def test_other_packages_are_not_counted(tmp_path, text):
    assert names(project(tmp_path, other=text)) == set()


def test_a_name_that_the_file_assigns_is_not_followed(tmp_path):
    text = "from detectron2.utils import comm\ndef f(comm):\n    return comm.world_size\n"
    assert names(project(tmp_path, shadow=text)) == {"detectron2.utils.comm"}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("detectron2.engine.DefaultTrainer", SUPPORTED),
        ("detectron2.modeling.roi_heads.roi_heads.StandardROIHeads", SUPPORTED),
        ("detectron2.modeling", SUPPORTED),
        ("detectron2.modeling.RotatedAnchorGenerator", UNKNOWN),
        ("detectron2.modeling.anchor_generator.RotatedAnchorGenerator", OUT_OF_SCOPE),
        ("detectron2.projects.point_rend.add_pointrend_config", OUT_OF_SCOPE),
        ("detectron2.engine.DefaultTrainr", UNKNOWN),
        ("detectron2.no_such_module.name", UNKNOWN),
    ],
)
def test_status(name, status):
    assert status_of(name) == status


def test_a_misspelt_name_is_answered_with_the_nearest():
    assert nearest_known("detectron2.engine.DefaultTrainr") == "detectron2.engine.DefaultTrainer"
    assert nearest_known("detectron2.somewhere.StandardROIHeads") == "detectron2.modeling.StandardROIHeads"


def test_exit_0_when_all_is_supported(tmp_path, capsys):
    assert main(["compat", str(project(tmp_path, fine=FINE))]) == 0
    assert "9 names of Detectron2: 9 supported, 0 out of scope, 0 unknown to Detectron2" in capsys.readouterr().out


def test_exit_1_names_what_is_not(tmp_path, capsys):
    text = "from detectron2.engine import DefaultTrainr\nfrom detectron2.projects import point_rend\n"
    assert main(["compat", "--quiet", str(project(tmp_path, bad=text))]) == 1
    out = capsys.readouterr().out
    assert "detectron2.engine.DefaultTrainr  (nearest: detectron2.engine.DefaultTrainer)\n    bad.py:1" in out
    assert "out of scope:\n  detectron2.projects.point_rend\n    bad.py:2" in out


@pytest.mark.parametrize("text", [None, "def broken(:\n", "x = '\0'"])
def test_exit_2_when_there_is_nothing_to_read(tmp_path, capsys, text):
    if text is not None:
        project(tmp_path, broken=text)
    assert main(["compat", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_is_run(tmp_path):
    canary = tmp_path / "canary"
    project(tmp_path, evil=f"open({str(canary)!r}, 'w')\nfrom detectron2.config import get_cfg\n")
    assert main(["compat", str(tmp_path)]) == 0
    assert not canary.exists()


@pytest.mark.parametrize("name", ["interpolate", "nms", "roi_align", "Linear", "ConvTranspose2d", "BatchNorm2d"])
def test_what_torch_lends_to_the_layers_is_a_name_of_detectron2(name):
    assert status_of(f"detectron2.layers.{name}") == SUPPORTED
