"""Models are built before a run, by names that are registered when they are looked for."""

import pytest
import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from rcnnkit.engine.model_check import check_model
from rcnnkit.errors import UserError
from tests.rcnnkit.modeling import small_rcnn


class _Rates(nn.Module):
    """Reads values while it is built, as stochastic depth does."""

    built_on: list[str] = []

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.built_on.append(self.weight.device.type)
        self.rates = torch.linspace(0, cfg.MODEL.RPN.NMS_THRESH, 3).tolist()
        if cfg.MODEL.RPN.NMS_THRESH > 1:
            raise ValueError("a rate\nabove 1")
        if cfg.MODEL.RPN.NMS_THRESH < 0:
            self.rates = self.rates.no_such_attribute


@pytest.fixture
def cfg():
    META_ARCH_REGISTRY.register(_Rates)
    _Rates.built_on.clear()
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "_Rates"
    yield cfg
    META_ARCH_REGISTRY._obj_map.pop("_Rates")


def test_a_model_that_cannot_be_built_on_meta_is_built_on_the_cpu(cfg):
    check_model(cfg)
    assert _Rates.built_on == ["meta", "cpu"]
    assert cfg.MODEL.DEVICE == "cuda"


def test_a_value_that_a_module_refuses(cfg):
    cfg.MODEL.RPN.NMS_THRESH = 2.0
    with pytest.raises(UserError, match=r"no model can be built from this config \(ValueError: a rate above 1\)"):
        check_model(cfg)


def test_a_mistake_in_a_module_keeps_its_traceback(cfg):
    cfg.MODEL.RPN.NMS_THRESH = -1.0
    with pytest.raises(AttributeError, match="no_such_attribute"):
        check_model(cfg)


def test_an_empty_name_is_that_of_its_registry(repository):
    """Many keys of a config without a box head are empty."""
    cfg = get_cfg()
    cfg.merge_from_file(str(repository / "configs" / "Base-RCNN-C4.yaml"))
    cfg.merge_from_list(["MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.RESNETS.DEPTH", 50])
    with pytest.raises(UserError, match=r"^MODEL\.ROI_BOX_HEAD\.NAME: '' is not registered in ROI_BOX_HEAD; .*FCHead"):
        check_model(cfg)


@pytest.mark.parametrize("head", ["CoordinateKeypointHead", "KRCNNConvDeconvUpsampleHead"])
def test_heads_without_heatmaps_have_no_test_time_augmentation(repository, head):
    """Stock Detectron2 has none for any keypoints."""
    cfg = small_rcnn.config(repository, "TEST.AUG.ENABLED", True, "MODEL.ROI_KEYPOINT_HEAD.NAME", head)
    if head == "CoordinateKeypointHead":
        with pytest.raises(UserError, match=r"TEST\.AUG\.ENABLED: True, but CoordinateKeypointHead has no heatmaps"):
            check_model(cfg)
        return
    try:
        check_model(cfg)
    except UserError as error:
        assert str(error).startswith("TEST.AUG.ENABLED: True, but not for this model: ")


def test_a_name_that_is_not_registered(cfg):
    cfg.MODEL.META_ARCHITECTURE = "_Rate"
    with pytest.raises(UserError, match=r"MODEL\.META_ARCHITECTURE: '_Rate' is not registered .* are: _Rates"):
        check_model(cfg)
