"""The Python configs of the model zoo and their shared parts, value by value."""

from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from detectron2 import model_zoo
from detectron2.config import LazyConfig

NAMES = [
    "common/coco_schedule",
    "common/data/coco",
    "common/data/coco_keypoint",
    "common/data/constants",
    "common/models/cascade_rcnn",
    "common/models/keypoint_rcnn_fpn",
    "common/models/mask_rcnn_c4",
    "common/models/mask_rcnn_fpn",
    "common/models/retinanet",
    "common/optim",
    "common/train",
    "COCO-Detection/retinanet_R_50_FPN_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
    "new_baselines/mask_rcnn_R_50_FPN_50ep_LSJ",
    *(f"new_baselines/mask_rcnn_R_{depth}_FPN_{epochs}ep_LSJ" for depth in (50, 101) for epochs in (100, 200, 400)),
]


def _flat(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}")
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}.{index}")
    elif callable(value):
        yield f"{name}: {getattr(value, '__qualname__', value)}"
    else:
        yield f"{name}: {value!r}"


def lazy_configs() -> dict[str, list[str]]:
    """Each config → its values, one line each; callables by their names, interpolations as they are written."""
    return {
        name: sorted(_flat(OmegaConf.to_container(LazyConfig.load(model_zoo.get_config_file(f"{name}.py"))), ""))
        for name in NAMES
    }


CASES = {"lazy_configs": lazy_configs}
