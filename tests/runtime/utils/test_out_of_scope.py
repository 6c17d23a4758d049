"""Names outside the engine import everywhere that stock Detectron2 has them, and refuse their use by name."""

import importlib

import pytest

from detectron2.config import get_cfg, instantiate
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_model, build_sem_seg_head
from detectron2.utils.out_of_scope import OUT_OF_SCOPE, refused_class
from detectron2.utils.registry import Registry

PUBLIC = [(module, name) for module, (_, names) in OUT_OF_SCOPE.items() for name in names.split()]
ELSEWHERE = [
    ("detectron2.evaluation", "COCOPanopticEvaluator"),
    ("detectron2.evaluation", "SemSegEvaluator"),
    ("detectron2.layers", "ASPP"),
    ("detectron2.layers", "ROIAlignRotated"),
    ("detectron2.layers.nms", "batched_nms_rotated"),
    ("detectron2.layers.rotated_boxes", "pairwise_iou_rotated"),
    ("detectron2.modeling", "MViT"),
    ("detectron2.modeling", "PanopticFPN"),
    ("detectron2.modeling", "SemanticSegmentor"),
    ("detectron2.modeling.anchor_generator", "RotatedAnchorGenerator"),
    ("detectron2.modeling.backbone", "get_vit_lr_decay_rate"),
    ("detectron2.modeling.box_regression", "Box2BoxTransformRotated"),
    ("detectron2.modeling.meta_arch", "FCOS"),
    ("detectron2.structures", "RotatedBoxes"),
    ("detectron2.data.datasets", "register_coco_panoptic_separated"),
]


@pytest.mark.parametrize(("module", "name"), PUBLIC + ELSEWHERE)
def test_imports_and_refuses_by_name(module, name):
    found = getattr(importlib.import_module(module), name)
    if isinstance(found, Registry):
        return
    for arguments in ((), (1, 2)):
        with pytest.raises(NotImplementedError, match=rf"\.{name}: .*outside the built-in engine.*RCNNKIT_ENGINE"):
            found(*arguments)


def test_a_subclass_can_be_written_but_not_made():
    base = refused_class("some.module", "Thing", "something")

    class Mine(base):
        def __init__(self):
            pass

    assert not isinstance(3, base)
    with pytest.raises(NotImplementedError, match=r"some\.module\.Thing: something"):
        Mine()


@pytest.mark.parametrize("name", ["PanopticFPN", "SemanticSegmentor"])
def test_a_config_that_names_one_gets_the_refusal(name):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = name
    cfg.MODEL.DEVICE = "cpu"
    with pytest.raises(NotImplementedError, match=name):
        build_model(cfg)
    with pytest.raises(NotImplementedError, match="SwinTransformer"):
        instantiate({"_target_": "detectron2.modeling.SwinTransformer"})


def test_heads_of_projects_are_built():
    cfg = get_cfg()
    assert cfg.MODEL.SEM_SEG_HEAD.NAME == "SemSegFPNHead"
    with pytest.raises(NotImplementedError, match="SemSegFPNHead"):
        build_sem_seg_head(cfg, {})

    @SEM_SEG_HEADS_REGISTRY.register()
    def _head_of_a_project(cfg, input_shape):
        return input_shape

    cfg.MODEL.SEM_SEG_HEAD.NAME = "_head_of_a_project"
    assert build_sem_seg_head(cfg, 5) == 5


def test_packages_pass_on_the_objects_of_their_modules():
    tracking = importlib.import_module("detectron2.tracking")
    assert importlib.import_module("detectron2.tracking.base_tracker").BaseTracker is tracking.BaseTracker
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("detectron2.tracking.nope")
