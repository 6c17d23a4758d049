"""Models of timm as backbones: shapes, what is frozen, norms, statistics, names that are not, weights from files."""

import math
import sys

import pytest
import timm
import torch
from timm.layers import FrozenBatchNormAct2d

from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from rcnnkit.errors import UserError

from .common import TIMM, config, timm_backbone

# A ResNet, a ConvNeXt and two hierarchical transformers; Swin's maps are N × H × W × C, and it is made for one size.
FAMILIES = ("test_resnet", "test_convnext", "swin_tiny_patch4_window7_224", "pvt_v2_b0")
SMALL = "test_resnet"  # 0.5 million parameters


def ceil_shape(spec: ShapeSpec, padded: tuple[int, int]) -> tuple[int, ...]:
    return (2, spec.channels, *(math.ceil(side / spec.stride) for side in padded))


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_are_the_said_ones_at_odd_sizes(name):
    backbone = timm_backbone(name).eval()
    assert backbone.size_divisibility == 32
    for size, padded in (((65, 99), (96, 128)), ((128, 97), (128, 128))):
        check_shapes(backbone, size, padded)


def check_shapes(backbone, size, padded):
    bottom_up = backbone.bottom_up
    with torch.no_grad():
        maps = bottom_up(torch.zeros(2, 3, *size))
        assert list(maps) == ["res2", "res3", "res4", "res5"]
        assert [spec.stride for spec in bottom_up.output_shape().values()] == [4, 8, 16, 32]
        for key, spec in bottom_up.output_shape().items():
            assert tuple(maps[key].shape) == ceil_shape(spec, padded), key
        levels = backbone(torch.zeros(2, 3, *padded))
        assert list(levels) == ["p2", "p3", "p4", "p5", "p6"]
        for key, spec in backbone.output_shape().items():
            assert tuple(levels[key].shape) == ceil_shape(spec, padded), key


@pytest.mark.parametrize("name", FAMILIES)
def test_builds_without_memory(name):
    with torch.device("meta"):
        backbone = timm_backbone(name)
    assert all(parameter.is_meta for parameter in backbone.parameters())


def test_features_are_timms_own():
    torch.manual_seed(0)
    backbone = timm_backbone(SMALL, OWN_STATISTICS=False).eval()
    model = timm.create_model(SMALL, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    model.load_state_dict(backbone.bottom_up.net.state_dict())
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(backbone.bottom_up(images).values(), model(images), strict=True):
            assert torch.equal(ours, theirs)


def test_swins_maps_have_channels_second():
    backbone = timm_backbone("swin_tiny_patch4_window7_224", OWN_STATISTICS=False).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        theirs = backbone.bottom_up.net(images)[1]
        assert theirs.shape == (1, 8, 12, 192)
        assert torch.equal(backbone.bottom_up(images)["res3"][0, 5], theirs[0, :, :, 5])


def test_statistics_are_not_in_checkpoints():
    assert not [key for key in timm_backbone(SMALL).state_dict() if "statistics" in key]


def test_one_channel_needs_statistics_of_the_config():
    cfg = config(TIMM, NAME=SMALL)
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = "L", [110.0], [1.0]
    with pytest.raises(UserError, match=r"MODEL.TIMM.OWN_STATISTICS: .* INPUT.FORMAT .* L with 1 channels"):
        build_backbone(cfg)
    cfg.MODEL.TIMM.OWN_STATISTICS = False
    assert build_backbone(cfg)(torch.zeros(1, 1, 64, 64))["p2"].shape == (1, 8, 16, 16)


def frozen_names(backbone) -> set[str]:
    """First parts of the names of what is not trained in the network of timm."""
    net = backbone.bottom_up.net
    return {name.split(".")[0] for name, parameter in net.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "freeze_at", "frozen"),
    [
        (SMALL, 0, set()),
        (SMALL, 1, {"conv1"}),  # batch norms: see below
        (SMALL, 2, {"conv1", "layer1"}),
        (SMALL, 3, {"conv1", "layer1", "layer2"}),
        (SMALL, 9, {"conv1", "layer1", "layer2", "layer3", "layer4"}),
        ("test_convnext", 1, {"stem_0", "stem_1"}),
        ("test_convnext", 2, {"stem_0", "stem_1", "stages_0"}),
        ("swin_tiny_patch4_window7_224", 2, {"patch_embed", "layers_0"}),
    ],
)
def test_frozen_stages(name, freeze_at, frozen):
    cfg = config(TIMM, NAME=name)
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    with torch.device("meta"):
        assert frozen_names(build_backbone(cfg)) == frozen


def test_batch_norms_of_frozen_stages_keep_their_statistics():
    cfg = config(TIMM, NAME=SMALL)
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    backbone = build_backbone(cfg).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items() if "running_mean" in key}
    backbone(torch.rand(2, 3, 64, 64))
    after = backbone.state_dict()
    moved = {key.split(".")[2] for key, value in before.items() if not torch.equal(after[key], value)}
    assert moved == {"layer2", "layer3", "layer4"}


def test_stages_that_are_not_known_cannot_be_frozen():
    cfg = config(TIMM, NAME="twins_svt_small")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    with pytest.raises(UserError, match=r"MODEL.BACKBONE.FREEZE_AT: 2, .* set it to 0"), torch.device("meta"):
        build_backbone(cfg)


def test_frozen_batch_norm_keeps_the_activation_in_it():
    """EfficientNet's batch norms hold the activation: a plain frozen one would lose it."""
    torch.manual_seed(0)
    own = timm_backbone("test_efficientnet").eval()
    frozen = timm_backbone("test_efficientnet", NORM="FrozenBN").train()
    assert any(isinstance(module, FrozenBatchNormAct2d) for module in frozen.modules())
    frozen.load_state_dict(own.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    for key, wanted in own(images).items():
        torch.testing.assert_close(frozen(images)[key], wanted)


def test_synchronised_batch_norm():
    kinds = {type(module).__name__ for module in timm_backbone(SMALL, NORM="SyncBN").bottom_up.modules()}
    assert "SyncBatchNorm" in kinds and "BatchNorm2d" not in kinds


def test_activations_computed_again_give_the_same_gradients():
    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        backbone = timm_backbone("test_convnext", CHECKPOINT_ACTIVATIONS=again).train()
        assert backbone.bottom_up.net.grad_checkpointing is again
        backbone(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))["p2"].square().mean().backward()
        gradients.append({name: value.grad for name, value in backbone.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_drop_path_falls_with_depth():
    rates = [
        module.drop_prob
        for module in timm_backbone("convnext_atto", DROP_PATH_RATE=0.2).modules()
        if type(module).__name__ == "DropPath"
    ]
    assert rates == sorted(rates) and max(rates) == pytest.approx(0.2)


def test_fewer_strides():
    cfg = config(TIMM, NAME=SMALL, OUT_STRIDES=(8, 16))
    cfg.MODEL.FPN.IN_FEATURES = []
    backbone = build_backbone(cfg)
    assert {key: spec.stride for key, spec in backbone.output_shape().items()} == {"p3": 8, "p4": 16, "p5": 32}
    maps = backbone(torch.zeros(1, 3, 64, 64))
    assert [tuple(one.shape[2:]) for one in maps.values()] == [(8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"NAME": "resnt50"}, r"MODEL.TIMM.NAME: 'resnt50' is not a model of timm .*nearest of .*: resnet50,"),
        ({"NAME": "hf-hub:someone/some"}, "is not a model of timm"),  # nothing is fetched
        ({"NAME": "resnet18.a1_in1"}, r"no such weights of resnet18; nearest: resnet18.a1_in1k"),
        ({"NAME": "test_vit"}, r"has feature maps of stride 16, not of 4; set MODEL.TIMM.OUT_STRIDES"),
        ({"NAME": "maxvit_pico_rw_256"}, r"cannot take an image of 64 × 96 pixels .*; use one for any size"),
        ({"NAME": SMALL, "OUT_STRIDES": (4, 16)}, r"MODEL.TIMM.OUT_STRIDES: \(4, 16\); give powers of 2"),
        ({"NAME": SMALL, "OUT_STRIDES": (8, 16)}, r"MODEL.FPN.IN_FEATURES: 'res2' is not given .* res3, res4"),
        ({"NAME": SMALL, "NORM": "LN"}, r"MODEL.TIMM.NORM: 'LN' is unknown; choose one of"),
        ({"NAME": "test_convnext", "NORM": "FrozenBN"}, "this backbone has no batch norm"),
        ({"NAME": SMALL, "DROP_PATH_RATE": 1.0}, "MODEL.TIMM.DROP_PATH_RATE: 1.0; give a share"),
        ({"NAME": "vgg11", "DROP_PATH_RATE": 0.1}, "MODEL.TIMM.DROP_PATH_RATE: 'vgg11' has no stochastic depth"),
        ({"NAME": SMALL, "WEIGHTS": "gone.pth"}, r"MODEL.TIMM.WEIGHTS gone.pth: no such file"),
        ({"NAME": SMALL, "WEIGHTS": "a.pth", "PRETRAINED": True}, "give one of them"),
    ],
)
def test_refusals_are_one_line(own, words):
    with pytest.raises(UserError, match=words), torch.device("meta"):
        timm_backbone(**{"name": own["NAME"], **{key: value for key, value in own.items() if key != "NAME"}})


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"build_timm_fpn_backbone needs the package timm .*pip install timm"):
        timm_backbone(SMALL)


def test_weights_that_cannot_be_fetched(monkeypatch):
    def no_network(*_args, **_options):
        raise OSError("no route to the hub\nmore of it")

    monkeypatch.setattr("timm.models._builder.load_pretrained", no_network)
    with pytest.raises(UserError, match=r"MODEL.TIMM.PRETRAINED: .* fetched \(no route to the hub\); download"):
        timm_backbone(SMALL, PRETRAINED=True)
