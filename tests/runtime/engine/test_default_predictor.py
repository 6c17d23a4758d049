import numpy as np
import pytest
import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import META_ARCH_REGISTRY


class _EchoModel(nn.Module):
    """Gives back its input, and a weight."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return [{**record, "training": self.training, "weight": self.weight.item()} for record in batch]


@pytest.fixture
def cfg(tmp_path):
    META_ARCH_REGISTRY._obj_map["_EchoModel"] = _EchoModel
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "_EchoModel"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": {"weight": torch.full((1,), 3.0)}}, cfg.MODEL.WEIGHTS)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 20, 100
    cfg.DATASETS.TEST = ("predictor_test",)
    yield cfg
    del META_ARCH_REGISTRY._obj_map["_EchoModel"]


@pytest.mark.parametrize(("order", "first_pixel"), [("BGR", [7.0, 0.0, 9.0]), ("RGB", [9.0, 0.0, 7.0])])
def test_image_is_resized_and_in_the_model_s_colour_order(cfg, order, first_pixel):
    cfg.INPUT.FORMAT = order
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0], image[..., 2] = 7, 9
    predictor = DefaultPredictor(cfg)
    output = predictor(image)
    assert output["image"].shape == (3, 20, 30)
    assert output["image"].dtype == torch.float32
    assert output["image"][:, 0, 0].tolist() == first_pixel
    assert (output["height"], output["width"], output["training"], output["weight"]) == (40, 60, False, 3.0)
    assert predictor.metadata.name == "predictor_test"


def test_unknown_colour_order(cfg):
    cfg.INPUT.FORMAT = "XYZ"
    with pytest.raises(AssertionError, match="XYZ"):
        DefaultPredictor(cfg)
