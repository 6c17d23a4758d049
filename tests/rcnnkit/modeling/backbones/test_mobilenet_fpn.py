"""MobileNetV3 as a backbone: shapes, frozen stages, norms, refusals."""

import pytest
import torch
import torchvision

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from rcnnkit.errors import UserError

from .common import MOBILENET, config, mobilenet


@pytest.mark.parametrize(("size", "channels"), [("large", [24, 40, 112, 960]), ("small", [16, 24, 48, 576])])
def test_shapes_are_the_said_ones_at_odd_sizes(size, channels):
    """Channels: tables 1 and 2 of the paper, the last rows of each resolution."""
    backbone = mobilenet(SIZE=size).eval()
    assert [spec.channels for spec in backbone.bottom_up.output_shape().values()] == channels
    with torch.no_grad():
        for key, one in backbone.bottom_up(torch.zeros(1, 3, 65, 99)).items():
            spec = backbone.bottom_up.output_shape()[key]
            assert tuple(one.shape) == (1, spec.channels, 96 // spec.stride, 128 // spec.stride)


def test_features_are_torchvisions():
    torch.manual_seed(0)
    backbone = mobilenet(OWN_STATISTICS=False).eval()
    model = torchvision.models.mobilenet_v3_large(weights=None).eval()
    model.load_state_dict(backbone.bottom_up.net.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(backbone.bottom_up(images)["res5"], model.features(images))


@pytest.mark.parametrize(("freeze_at", "last"), [(0, None), (1, 1), (2, 3), (4, 12)])
def test_frozen_stages(freeze_at, last):
    """Of the large one, the strides end with blocks 1 (2 pixels), 3 (4), 6, 12 and 16."""
    cfg = config(MOBILENET)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    net = build_backbone(cfg).bottom_up.net
    trained = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
    assert {int(name.split(".")[1]) for name, trains in trained.items() if not trains} == set(
        range(-1 if last is None else last + 1)
    ) - {-1}
    kinds = {type(module) for block in net.features[: (last or -1) + 1] for module in block.modules()}
    assert torch.nn.BatchNorm2d not in kinds


def test_frozen_batch_norms():
    kinds = {type(module) for module in mobilenet(NORM="FrozenBN", SIZE="small").bottom_up.modules()}
    assert FrozenBatchNorm2d in kinds and torch.nn.BatchNorm2d not in kinds


def test_width():
    narrow, whole = (
        sum(one.numel() for one in mobilenet(SIZE="small", WIDTH=width).parameters()) for width in (0.5, 1.0)
    )
    assert narrow < 0.5 * whole


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"SIZE": "larg"}, r"MODEL.MOBILENET.SIZE: 'larg' is unknown; choose one of large"),
        ({"WIDTH": 0.0}, "MODEL.MOBILENET.WIDTH: 0.0; give a factor above 0"),
        ({"OUT_STRIDES": (32, 64)}, r"MODEL.MOBILENET.OUT_STRIDES: \(32, 64\); the model has 2, 4, 8, 16, 32"),
        ({"WEIGHTS": "gone.pth"}, "MODEL.MOBILENET.WEIGHTS gone.pth: no such file"),
    ],
)
def test_refusals_are_one_line(own, words):
    with pytest.raises(UserError, match=words), torch.device("meta"):
        mobilenet(**own)


def test_weights_that_cannot_be_fetched(monkeypatch):
    def no_network(*_args, **_options):
        raise OSError("no route\nmore")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(UserError, match=r"MODEL.MOBILENET.PRETRAINED: .* cannot be fetched \(no route\); download"):
        mobilenet(PRETRAINED=True)
