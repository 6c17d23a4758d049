"""Every shipped config loads, keeps to the rules of the house, passes validation and builds its model."""

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml

from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from rcnnkit.config import add_rcnnkit_config, validate_config
from rcnnkit.engine_choice import activate_engine
from tests.golden.cases import zoo

ROOT = Path(__file__).resolve().parents[2] / "configs"
ALL = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.yaml"))
ZOO = [f"{name}.yaml" for name in zoo.NAMES]
HAS_DEFORMABLE = activate_engine() == "builtin" or importlib.util.find_spec("detectron2._C") is not None
# Data sets that are registered only where their own preparation script has run.
PREPARED_ELSEWHERE = ("cityscapes_fine", "lvis_v0.5")


def load(name: str) -> CfgNode:
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.merge_from_file(str(ROOT / name))
    return cfg


def _bases(name: str) -> list[str]:
    base = yaml.safe_load((ROOT / name).read_text()).get("_BASE_")
    if base is None:
        return []
    path = str((ROOT / name).parent.joinpath(base).resolve().relative_to(ROOT))
    return [path, *_bases(path)]


def test_the_zoo_has_its_names():
    assert set(ZOO) <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_loads_and_inherits_at_most_twice(name):
    assert load(name).VERSION == 2
    assert len(_bases(name)) <= 2


@pytest.mark.parametrize("name", ALL)
def test_opens_with_a_comment_that_says_what_it_is(name):
    assert (ROOT / name).read_text().startswith("# ")


@pytest.mark.parametrize("name", [name for name in ALL if "Base" not in name])
def test_passes_validation(name):
    cfg = load(name)
    for data_set in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if data_set.startswith(PREPARED_ELSEWHERE):
            return
        if data_set.startswith(("coco", "keypoints")):
            assert MetadataCatalog.get(data_set).thing_classes
    validate_config(cfg)


@pytest.mark.parametrize("name", ALL)
def test_builds_its_model(name):
    cfg = load(name)
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE) and not HAS_DEFORMABLE:
        pytest.skip("this stock Detectron2 is not compiled and has no deformable convolution")
    cfg.MODEL.DEVICE = "meta"  # shapes without values: a ResNeXt-152 in a second
    cfg.MODEL.WEIGHTS = ""
    with torch.device("meta"):
        model = build_model(cfg)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1e6
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    heads = getattr(model, "roi_heads", None)
    if heads is not None:
        assert (bool(getattr(heads, "mask_on", False)), bool(getattr(heads, "keypoint_on", False))) == (
            cfg.MODEL.MASK_ON,
            cfg.MODEL.KEYPOINT_ON,
        )
    else:
        assert cfg.MODEL.META_ARCHITECTURE in ("ProposalNetwork", "RetinaNet")


@pytest.mark.parametrize(
    ("name", "steps", "iterations"),
    [
        ("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", (60000, 80000), 90000),
        ("COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml", (210000, 250000), 270000),
    ],
)
def test_schedules_are_those_of_the_zoo(name, steps, iterations):
    cfg = load(name)
    assert (
        steps,
        iterations,
        16,
        0.02,
    ) == (cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR)
