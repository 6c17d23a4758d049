"""ResNet and ResNeXt (He et al., 2016; Xie et al., 2017), with dilation and deformable convolutions (Zhu et al., 2019).

Module names make checkpoint keys: ``stem.conv1``, ``res2.0.conv1``, ``res2.0.shortcut`` etc.; each convolution owns
its normalisation as ``.norm``.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import nn

from detectron2.layers import CNNBlockBase, Conv2d, DeformConv, ModulatedDeformConv, ShapeSpec, get_norm
from detectron2.layers.wrappers import channels_last_if_faster
from detectron2.modeling.backbone.backbone import Backbone
from detectron2.modeling.backbone.build import BACKBONE_REGISTRY

__all__ = [
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "DeformBottleneckBlock",
    "ResNet",
    "ResNetBlockBase",
    "build_resnet_backbone",
    "make_stage",
]

ResNetBlockBase = CNNBlockBase
"""Older name of ``CNNBlockBase``."""

_BLOCKS_PER_STAGE = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
_BASIC_BLOCK_DEPTHS = (18, 34)
# Smaller images gain nothing by another layout.
_MIN_PIXELS_CHANNELS_LAST = 1 << 15


def _conv_norm(in_channels: int, out_channels: int, norm, **kwargs) -> Conv2d:
    """A convolution without bias that is followed by a normalisation, He-initialised."""
    conv = Conv2d(in_channels, out_channels, bias=False, norm=get_norm(norm, out_channels), **kwargs)
    weight_init.c2_msra_fill(conv)
    return conv


def _make_shortcut(in_channels: int, out_channels: int, stride: int, norm) -> Conv2d | None:
    """The projection of the residual connection, where the number of channels changes."""
    if in_channels == out_channels:
        return None
    return _conv_norm(in_channels, out_channels, norm, kernel_size=1, stride=stride)


def _add_residual(out: torch.Tensor, x: torch.Tensor, shortcut: nn.Module | None) -> torch.Tensor:
    out += x if shortcut is None else shortcut(x)
    return F.relu_(out)


class BasicBlock(CNNBlockBase):
    """Two 3x3 convolutions, the block of ResNet-18 and -34."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm="BN") -> None:
        """
        Args:
            stride: of the first convolution and the shortcut.
            norm: anything that ``get_norm`` takes.
        """
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _make_shortcut(in_channels, out_channels, stride, norm)
        self.conv1 = _conv_norm(in_channels, out_channels, norm, kernel_size=3, stride=stride, padding=1)
        self.conv2 = _conv_norm(out_channels, out_channels, norm, kernel_size=3, stride=1, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv2(F.relu_(self.conv1(x)))
        return _add_residual(out, x, self.shortcut)


class BottleneckBlock(CNNBlockBase):
    """1x1, 3x3 and 1x1 convolutions, the block of ResNet-50, -101, -152 and, with groups, ResNeXt."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm="BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        """
        Args:
            bottleneck_channels: width of the 3x3 convolution.
            num_groups: groups of the 3x3 convolution.
            norm: anything that ``get_norm`` takes.
            stride_in_1x1: the first 1x1 convolution has the stride (the original ResNet), not the 3x3 one.
            dilation: of the 3x3 convolution.
        """
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = _make_shortcut(in_channels, out_channels, stride, norm)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv_norm(in_channels, bottleneck_channels, norm, kernel_size=1, stride=stride_1x1)
        self.conv2 = _conv_norm(
            bottleneck_channels,
            bottleneck_channels,
            norm,
            kernel_size=3,
            stride=stride_3x3,
            padding=dilation,
            groups=num_groups,
            dilation=dilation,
        )
        self.conv3 = _conv_norm(bottleneck_channels, out_channels, norm, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out))
        return _add_residual(self.conv3(out), x, self.shortcut)


class DeformBottleneckBlock(CNNBlockBase):
    """``BottleneckBlock`` with a deformable 3x3 convolution (Dai et al., 2017; modulated: Zhu et al., 2019)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm="BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
    ) -> None:
        """
        Args:
            deform_modulated: each sampling point has a learned weight beside its offset.
            deform_num_groups: groups of channels with offsets of their own.
        """
        super().__init__(in_channels, out_channels, stride)
        self.deform_modulated = deform_modulated
        self.shortcut = _make_shortcut(in_channels, out_channels, stride, norm)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv_norm(in_channels, bottleneck_channels, norm, kernel_size=1, stride=stride_1x1)
        # Per sampling point of the 3x3 kernel: y and x offset, and with modulation a weight.
        num_offset_channels = (3 if deform_modulated else 2) * 3 * 3 * deform_num_groups
        self.conv2_offset = Conv2d(
            bottleneck_channels,
            num_offset_channels,
            kernel_size=3,
            stride=stride_3x3,
            padding=dilation,
            dilation=dilation,
        )
        deform_conv = ModulatedDeformConv if deform_modulated else DeformConv
        self.conv2 = deform_conv(
            bottleneck_channels,
            bottleneck_channels,
            kernel_size=3,
            stride=stride_3x3,
            padding=dilation,
            bias=False,
            groups=num_groups,
            dilation=dilation,
            deformable_groups=deform_num_groups,
            norm=get_norm(norm, bottleneck_channels),
        )
        weight_init.c2_msra_fill(self.conv2)
        self.conv3 = _conv_norm(bottleneck_channels, out_channels, norm, kernel_size=1)
        # Zero offsets: training starts from the ordinary convolution.
        nn.init.constant_(self.conv2_offset.weight, 0)
        nn.init.constant_(cast(torch.Tensor, self.conv2_offset.bias), 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu_(self.conv1(x))
        offset = self.conv2_offset(out)
        if self.deform_modulated:
            num_offsets = offset.shape[1] // 3 * 2
            out = self.conv2(out, offset[:, :num_offsets], offset[:, num_offsets:].sigmoid())
        else:
            out = self.conv2(out, offset)
        return _add_residual(self.conv3(F.relu_(out)), x, self.shortcut)


class BasicStem(CNNBlockBase):
    """The 7x7 convolution and max pooling before the first stage; stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm="BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv_norm(in_channels, out_channels, norm, kernel_size=7, stride=2, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """A stem and stages ``res2``, ``res3``, ...; optionally a linear classifier on top."""

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: list[list[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: list[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        """
        Args:
            stem: has ``stride``.
            stages: the blocks of each stage; see ``make_stage``.
            num_classes: adds average pooling and a linear layer, output ``linear``.
            out_features: outputs among ``stem``, ``res2``, ..., ``linear``; the last layer if not given. Stages behind
                the last one that is asked for are not built.
            freeze_at: see ``freeze``.
        """
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        current_stride = stem.stride
        self._out_feature_strides: dict[str, int] = {"stem": current_stride}
        self._out_feature_channels = {"stem": stem.out_channels}

        if out_features is not None:
            # What lies behind the last requested output is never run, so it is not built either.
            needed = [int(name[3:]) - 1 for name in out_features if name[:3] == "res" and name[3:].isdigit()]
            stages = stages[: max(needed, default=len(stages) if "linear" in out_features else 0)]

        names = []
        self.stages: list[nn.Sequential] = []
        for number, blocks in enumerate(stages, start=2):
            assert len(blocks) > 0, f"stage res{number} has no blocks"
            for block in blocks:
                assert isinstance(block, CNNBlockBase), f"res{number}: {type(block)} is not a CNNBlockBase"
                current_stride *= block.stride
            name = f"res{number}"
            stage = nn.Sequential(*blocks)
            self.add_module(name, stage)
            names.append(name)
            self.stages.append(stage)
            self._out_feature_strides[name] = current_stride
            self._out_feature_channels[name] = blocks[-1].out_channels
        # A tuple: lists of module attributes cannot be scripted.
        self.stage_names = tuple(names)
        last_name = names[-1] if names else "stem"

        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(self._out_feature_channels[last_name], num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)  # Goyal et al., 2017, section 5.1
            last_name = "linear"

        self._out_features = [last_name] if out_features is None else list(out_features)
        assert len(self._out_features), "out_features must name at least one output"
        children = [name for name, _ in self.named_children()]
        for name in self._out_features:
            assert name in children, f"out_features has {name!r}. Available children: {', '.join(children)}"
        self.freeze(freeze_at)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images to the maps of ``out_features`` by name; ``linear`` is (N, num_classes)."""
        assert x.dim() == 4, f"ResNet takes an input of shape (N, C, H, W). Got {x.shape} instead!"
        outputs = {}
        if x.shape[2] * x.shape[3] >= _MIN_PIXELS_CHANNELS_LAST:
            x = channels_last_if_faster(x)
        x = self.stem(x)
        if "stem" in self._out_features:
            outputs["stem"] = x
        for name, stage in zip(self.stage_names, self.stages):
            x = stage(x)
            if name in self._out_features:
                outputs[name] = x
        if self.num_classes is not None:
            x = self.linear(torch.flatten(self.avgpool(x), 1))
            if "linear" in self._out_features:
                outputs["linear"] = x
        return outputs

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Freezes the first ``freeze_at`` parts, the stem being the first: 1 freezes the stem, 2 also ``res2``, etc.

        Frozen parameters get no gradient and frozen batch normalisation uses constant statistics.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        for number, stage in enumerate(self.stages, start=2):
            if freeze_at >= number:
                for block in stage.children():
                    cast(CNNBlockBase, block).freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase], num_blocks: int, *, in_channels: int, out_channels: int, **kwargs
    ) -> list[CNNBlockBase]:
        """Creates the blocks of one stage; only the first changes the number of channels.

        Args:
            kwargs: passed to ``block_class``. ``<name>_per_block`` lists one value of ``<name>`` per block, e.g.
                ``stride_per_block=[2, 1, 1]``.
        """
        blocks = []
        for index in range(num_blocks):
            block_kwargs = {}
            for key, value in kwargs.items():
                if not key.endswith("_per_block"):
                    block_kwargs[key] = value
                    continue
                assert len(value) == num_blocks, (
                    f"Argument '{key}' of make_stage should have the same length as num_blocks={num_blocks}."
                )
                name = key[: -len("_per_block")]
                assert name not in kwargs, f"Cannot call make_stage with both {name} and {key}!"
                block_kwargs[name] = value[index]
            blocks.append(block_class(in_channels=in_channels, out_channels=out_channels, **block_kwargs))
            in_channels = out_channels
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs
    ) -> list[list[CNNBlockBase]]:
        """Creates the four stages of ResNet-18, -34, -50, -101 or -152, to be modified or passed to ``ResNet``.

        Args:
            block_class: basic or bottleneck blocks by ``depth`` if not given.
            kwargs: passed to ``make_stage``; not the strides and channels, which the depth decides.
        """
        basic = depth in _BASIC_BLOCK_DEPTHS
        if block_class is None:
            block_class = BasicBlock if basic else BottleneckBlock
        out_channels_per_stage = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
        in_channels = 64
        stages = []
        for number, (num_blocks, out_channels) in enumerate(zip(_BLOCKS_PER_STAGE[depth], out_channels_per_stage)):
            stage_kwargs = dict(kwargs)
            if not issubclass(block_class, BasicBlock):
                stage_kwargs["bottleneck_channels"] = out_channels // 4
            first_stride = 1 if number == 0 else 2
            stages.append(
                ResNet.make_stage(
                    block_class,
                    num_blocks,
                    in_channels=in_channels,
                    out_channels=out_channels,
                    stride_per_block=[first_stride] + [1] * (num_blocks - 1),
                    **stage_kwargs,
                )
            )
            in_channels = out_channels
        return stages


def make_stage(*args, **kwargs) -> list[CNNBlockBase]:
    """Older name of ``ResNet.make_stage``."""
    return ResNet.make_stage(*args, **kwargs)


def _check_basic_block_options(options, deform_on_per_stage: Sequence[bool]) -> None:
    """ResNet-18 and -34 exist in their plain form only."""
    assert options.RES2_OUT_CHANNELS == 64, "Must set MODEL.RESNETS.RES2_OUT_CHANNELS = 64 for R18/R34"
    assert not any(deform_on_per_stage), "MODEL.RESNETS.DEFORM_ON_PER_STAGE unsupported for R18/R34"
    assert options.RES5_DILATION == 1, "Must set MODEL.RESNETS.RES5_DILATION = 1 for R18/R34"
    assert options.NUM_GROUPS == 1, "Must set MODEL.RESNETS.NUM_GROUPS = 1 for R18/R34"


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """ResNet or ResNeXt by ``cfg.MODEL.RESNETS``, frozen as ``cfg.MODEL.BACKBONE.FREEZE_AT`` says."""
    options = cfg.MODEL.RESNETS
    depth, norm, res5_dilation = options.DEPTH, options.NORM, options.RES5_DILATION
    deform_on_per_stage = options.DEFORM_ON_PER_STAGE
    assert depth in _BLOCKS_PER_STAGE, f"MODEL.RESNETS.DEPTH must be one of {sorted(_BLOCKS_PER_STAGE)}, got {depth}"
    assert res5_dilation in (1, 2), f"res5_dilation cannot be {res5_dilation}."
    if depth in _BASIC_BLOCK_DEPTHS:
        _check_basic_block_options(options, deform_on_per_stage)

    stem = BasicStem(in_channels=cast(int, input_shape.channels), out_channels=options.STEM_OUT_CHANNELS, norm=norm)
    last_stage = max({"res2": 2, "res3": 3, "res4": 4, "res5": 5}.get(name, 1) for name in options.OUT_FEATURES)
    in_channels = options.STEM_OUT_CHANNELS
    out_channels = options.RES2_OUT_CHANNELS
    bottleneck_channels = options.NUM_GROUPS * options.WIDTH_PER_GROUP

    stages = []
    for number in range(2, last_stage + 1):
        num_blocks = _BLOCKS_PER_STAGE[depth][number - 2]
        dilation = res5_dilation if number == 5 else 1
        # A dilated last stage keeps the resolution instead of halving it.
        first_stride = 1 if number == 2 or dilation == 2 else 2
        kwargs = {"stride_per_block": [first_stride] + [1] * (num_blocks - 1), "norm": norm}
        block_class: type[CNNBlockBase] = BasicBlock
        if depth not in _BASIC_BLOCK_DEPTHS:
            block_class = BottleneckBlock
            kwargs |= {
                "bottleneck_channels": bottleneck_channels,
                "stride_in_1x1": options.STRIDE_IN_1X1,
                "dilation": dilation,
                "num_groups": options.NUM_GROUPS,
            }
            if deform_on_per_stage[number - 2]:
                block_class = DeformBottleneckBlock
                kwargs |= {"deform_modulated": options.DEFORM_MODULATED, "deform_num_groups": options.DEFORM_NUM_GROUPS}
        stages.append(
            ResNet.make_stage(block_class, num_blocks, in_channels=in_channels, out_channels=out_channels, **kwargs)
        )
        in_channels, out_channels, bottleneck_channels = out_channels, out_channels * 2, bottleneck_channels * 2
    return ResNet(stem, stages, out_features=options.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
