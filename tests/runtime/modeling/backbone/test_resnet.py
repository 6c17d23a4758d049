import pytest
import torch

from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, build_backbone
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNet,
    build_resnet_backbone,
    make_stage,
)


def tiny(**kwargs):
    """A stem and two stages, 8 channels."""
    stages = [
        make_stage(BasicBlock, 2, in_channels=8, out_channels=8, stride_per_block=[1, 1]),
        make_stage(BasicBlock, 1, in_channels=8, out_channels=16, stride_per_block=[2]),
    ]
    return ResNet(BasicStem(out_channels=8), stages, **kwargs)


def resnet_cfg(depth=18, **options):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    for name, value in options.items():
        cfg.MODEL.RESNETS[name] = value
    return cfg


def test_outputs_strides_and_channels():
    model = tiny(out_features=["stem", "res2", "res3"])
    features = model(torch.zeros(2, 3, 32, 64))
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        "stem": (2, 8, 8, 16),
        "res2": (2, 8, 8, 16),
        "res3": (2, 16, 4, 8),
    }
    assert model.output_shape()["res3"] == ShapeSpec(channels=16, stride=8)
    assert model.size_divisibility == 0
    assert model.padding_constraints == {}


def test_stages_behind_the_last_output_are_not_built():
    assert [name for name, _ in tiny(out_features=["res2"]).named_children()] == ["stem", "res2"]


def test_last_stage_is_the_default_output_and_a_classifier_replaces_it():
    assert list(tiny().output_shape()) == ["res3"]
    model = tiny(num_classes=5)
    assert list(model(torch.zeros(1, 3, 32, 32))) == ["linear"]
    assert model(torch.zeros(1, 3, 32, 32))["linear"].shape == (1, 5)
    assert [name for name, _ in model.named_children()] == ["stem", "res2", "res3", "avgpool", "linear"]


def test_unknown_output_names_the_layers_there_are():
    with pytest.raises(AssertionError, match=r"res9.*Available children: stem, res2, res3"):
        tiny(out_features=["res9"])


def test_input_must_be_a_batch():
    with pytest.raises(AssertionError, match=r"shape \(N, C, H, W\)"):
        tiny()(torch.zeros(3, 32, 32))


def test_freezing_counts_the_stem_first():
    model = tiny(freeze_at=2)
    frozen = {name.split(".")[0] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"stem", "res2"}
    assert isinstance(model.res2[0].conv1.norm, FrozenBatchNorm2d)
    assert not isinstance(model.res3[0].conv1.norm, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("depth", "blocks", "channels"),
    [(18, [2, 2, 2, 2], 512), (34, [3, 4, 6, 3], 512), (50, [3, 4, 6, 3], 2048)],
)
def test_default_stages(depth, blocks, channels):
    stages = ResNet.make_default_stages(depth)
    assert [len(stage) for stage in stages] == blocks
    assert [stage[0].stride for stage in stages] == [1, 2, 2, 2]
    assert stages[-1][-1].out_channels == channels


def test_arguments_per_block():
    blocks = make_stage(
        BottleneckBlock,
        2,
        in_channels=8,
        out_channels=16,
        bottleneck_channels=4,
        stride_per_block=[2, 1],
        dilation_per_block=[1, 2],
    )
    assert [block.conv2.stride for block in blocks] == [(2, 2), (1, 1)]
    assert [block.conv2.dilation for block in blocks] == [(1, 1), (2, 2)]
    assert blocks[0].shortcut is not None
    assert blocks[1].shortcut is None
    with pytest.raises(AssertionError, match="num_blocks=3"):
        make_stage(BasicBlock, 3, in_channels=8, out_channels=8, stride_per_block=[2, 1])
    with pytest.raises(AssertionError, match="both stride and stride_per_block"):
        make_stage(BasicBlock, 1, in_channels=8, out_channels=8, stride=1, stride_per_block=[1])


@pytest.mark.parametrize("modulated", [False, True])
def test_fresh_deformable_block_samples_the_regular_grid(modulated):
    torch.manual_seed(0)
    kwargs = {"bottleneck_channels": 4, "stride": 2, "norm": "FrozenBN"}
    deformable = DeformBottleneckBlock(8, 16, deform_modulated=modulated, deform_num_groups=2, **kwargs)
    assert deformable.conv2_offset.out_channels == (54 if modulated else 36)
    regular = BottleneckBlock(8, 16, **kwargs)
    regular.load_state_dict(deformable.state_dict(), strict=False)
    if modulated:
        with torch.no_grad():
            regular.conv2.weight.mul_(0.5)  # the weights of the sampling points start at sigmoid(0)
    x = torch.rand(1, 8, 9, 10)
    torch.testing.assert_close(deformable(x), regular(x), atol=1e-5, rtol=1e-5)


def test_resnext_widths():
    cfg = resnet_cfg(50, NUM_GROUPS=32, WIDTH_PER_GROUP=8, OUT_FEATURES=["res3"])
    model = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    assert model.res2[0].conv2.groups == 32
    assert [stage[0].conv2.out_channels for stage in model.stages] == [256, 512]


def test_dilated_last_stage_keeps_the_resolution():
    cfg = resnet_cfg(50, RES5_DILATION=2, OUT_FEATURES=["res5"])
    model = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    assert model.output_shape()["res5"].stride == 16
    assert {block.conv2.dilation for block in model.res5} == {(2, 2)}


def test_deformable_stages():
    cfg = resnet_cfg(50, DEFORM_ON_PER_STAGE=[False, True], DEFORM_MODULATED=True, OUT_FEATURES=["res3"])
    model = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    assert isinstance(model.res2[0], BottleneckBlock)
    assert isinstance(model.res3[0], DeformBottleneckBlock)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"RES2_OUT_CHANNELS": 256}, "RES2_OUT_CHANNELS = 64"),
        ({"RES5_DILATION": 2}, "RES5_DILATION = 1"),
        ({"NUM_GROUPS": 2}, "NUM_GROUPS = 1"),
        ({"DEFORM_ON_PER_STAGE": [True]}, "DEFORM_ON_PER_STAGE"),
        ({"DEPTH": 77}, "DEPTH must be one of"),
        ({"RES5_DILATION": 3}, "cannot be 3"),
    ],
)
def test_impossible_configs(options, message):
    with pytest.raises(AssertionError, match=message):
        build_resnet_backbone(resnet_cfg(**options), ShapeSpec(channels=3))


def test_a_registered_builder_must_return_a_backbone():
    @BACKBONE_REGISTRY.register()
    def build_no_backbone(cfg, input_shape):
        return torch.nn.Identity()

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_no_backbone"
    with pytest.raises(AssertionError, match="build_no_backbone"):
        build_backbone(cfg)


def test_channels_follow_the_pixel_mean():
    cfg = resnet_cfg(OUT_FEATURES=["stem"])
    cfg.MODEL.PIXEL_MEAN = [0.0]
    assert build_backbone(cfg).stem.conv1.in_channels == 1
