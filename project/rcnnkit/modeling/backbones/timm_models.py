"""Feature extractors of timm (https://github.com/huggingface/pytorch-image-models) for images of any size.

Shapes: N images, C channels, H × W pixels.
"""

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rcnnkit.errors import UserError, nearest

KEY = "MODEL.TIMM.NAME"
# Models that take images of any size, named where one does not.
ADVICE = "use one for any size, as resnet50, convnext_tiny, swin_tiny_patch4_window7_224 or pvt_v2_b1"
PROBES = ((64, 96), (160, 224))  # pixels; small, not square, and no multiples of 64 beyond the first


@dataclass(frozen=True)
class Extractor:
    """A feature extractor and what is known of its maps.

    Attributes:
        net: (N, C, H, W) images to a list of maps, finest first.
        channels: stride in pixels → channels of each map, finest first.
        channels_last: the maps are (N, H, W, C).
        stages: stride → name, in `net`, of the last module of that stride; for all strides that the model has.
        mean, std: (3,) pixel statistics of its published weights, RGB from 0 to 1.
    """

    net: nn.Module
    channels: dict[int, int]
    channels_last: bool
    stages: dict[int, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def import_timm() -> Any:
    """The package timm, which rcnnkit works without."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(
            f"MODEL.BACKBONE.NAME: build_timm_fpn_backbone needs the package timm ({error}); pip install timm"
        ) from error


def check_name(name: str) -> None:
    """Refuse a name, or a tag of weights after the point, that timm does not have.

    Raises:
        UserError: with the nearest names.
    """
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        raise UserError(
            f"{KEY}: {name!r} is not a model of timm {timm.__version__}; nearest of its {len(known)}: "
            f"{', '.join(nearest(architecture, known, 6))}"
        )
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        raise UserError(
            f"{KEY}: {name!r}: timm {timm.__version__} has no such weights of {architecture}; nearest: "
            f"{', '.join(nearest(name, [architecture, *tagged], 6))}"
        )


def make_extractor(
    name: str, strides: Sequence[int], *, in_channels: int = 3, drop_path_rate: float = 0.0, pretrained: bool = False
) -> Extractor:
    """Build a model of timm as a feature extractor, and try it on images of two sizes.

    Args:
        name: of the model.
        strides: of the wanted maps, in pixels, finest first.
        in_channels: of the images.
        drop_path_rate: largest share of the residual branches left out in training.
        pretrained: download the published weights.

    Raises:
        UserError: no such model, or one that has no maps of these strides, or not for images of any size.
        Exception: what timm raises where weights cannot be fetched.
    """
    timm = import_timm()
    options: dict[str, Any] = {"in_chans": in_channels}
    if drop_path_rate:
        options["drop_path_rate"] = drop_path_rate
    with torch.device("meta"):
        plan, options = _create(name, options)
    infos = {info["reduction"]: (index, info) for index, info in enumerate(_all_infos(plan))}  # the last of a stride
    lacking = [stride for stride in strides if stride not in infos]
    if lacking:
        raise UserError(
            f"{KEY}: {name!r} has feature maps of stride {', '.join(map(str, infos))}, not of {lacking[0]}; set "
            "MODEL.TIMM.OUT_STRIDES to strides that it has, or " + ADVICE
        )
    out_indices = tuple(infos[stride][0] for stride in strides)
    net, _ = _create(name, options, pretrained=pretrained, out_indices=out_indices)
    channels = dict(zip(strides, net.feature_info.channels()))
    config = timm.get_pretrained_cfg(name)
    layout = str(getattr(getattr(net, "output_fmt", None), "value", "NCHW"))
    extractor = Extractor(
        net=net,
        channels=channels,
        channels_last=layout == "NHWC",
        stages=_stages(net, infos),
        mean=tuple(config.mean if config else timm.data.IMAGENET_DEFAULT_MEAN),
        std=tuple(config.std if config else timm.data.IMAGENET_DEFAULT_STD),
    )
    _try_out(extractor, name, in_channels)
    return extractor


def _create(name: str, options: dict[str, Any], **more: Any) -> tuple[Any, dict[str, Any]]:
    """A feature extractor, and the options that its model takes."""
    timm = import_timm()
    # Windowed transformers are for one size of images unless told otherwise; other models do not know the option.
    for extra in ({"strict_img_size": False}, {}):
        tried = {**options, **extra}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of timm: what is said of names of old
                return timm.create_model(name, features_only=True, **tried, **more), options | extra
        except TypeError as error:
            if extra and "strict_img_size" in str(error):
                continue
            named = [option for option in options if option in str(error)]
            if named == ["drop_path_rate"]:
                raise UserError(f"MODEL.TIMM.DROP_PATH_RATE: {name!r} has no stochastic depth; set it to 0") from error
            raise
        except (RuntimeError, AttributeError, AssertionError, NotImplementedError) as error:
            if more.get("pretrained"):
                raise
            raise UserError(f"{KEY}: {name!r} gives no feature maps ({_first_line(error)}); {ADVICE}") from error
    raise AssertionError("the last attempt returns or raises")


def _all_infos(net: Any) -> list[dict[str, Any]]:
    """What timm knows of all feature maps of a model, also of those that are not given out."""
    return list(net.feature_info.info)


def _stages(net: nn.Module, infos: dict[int, tuple[int, dict[str, Any]]]) -> dict[int, str]:
    """Stride → module, under the name that it has in the extractor; an unknown one under the name in timm's model."""
    names = {name for name, _ in net.named_modules()}
    stages = {}
    for stride, (_, info) in infos.items():
        first, _, rest = info["module"].partition(".")
        candidates = (info["module"], f"{first}_{rest}", f"model.{info['module']}", f"body.{info['module']}")
        stages[stride] = next((name for name in candidates if name in names), info["module"])
    return stages


@torch.no_grad()
def _try_out(extractor: Extractor, name: str, in_channels: int) -> None:
    """Two images of other sizes than the model was made for: maps must be as large and as many as they are said."""
    net = extractor.net
    device = next(net.parameters()).device
    net.eval()
    for height, width in PROBES:
        try:
            maps = net(torch.zeros(1, in_channels, height, width, device=device))
        except Exception as error:  # a model says in its own way that it is for one size
            raise UserError(
                f"{KEY}: {name!r} cannot take an image of {height} × {width} pixels ({_first_line(error)}); {ADVICE}"
            ) from error
        wanted = [
            (1, height // stride, width // stride, channels)
            if extractor.channels_last
            else (1, channels, height // stride, width // stride)
            for stride, channels in extractor.channels.items()
        ]
        given = [tuple(one.shape) for one in maps]
        if given != wanted:
            raise UserError(f"{KEY}: {name!r} gives maps of {given} instead of {wanted}; {ADVICE}")
    net.train()


def _first_line(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return (words[0] if words else type(error).__name__)[:160]
