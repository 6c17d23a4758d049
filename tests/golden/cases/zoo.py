"""The configs of the model zoo: what each of them changes in the defaults, and where its trained weights lie."""

from detectron2.config import get_cfg
from detectron2.model_zoo import get_checkpoint_url, get_config
from tests.golden.cases_config import flat

BASES = (
    "Base-RCNN-C4",
    "Base-RCNN-DilatedC5",
    "Base-RCNN-FPN",
    "Base-RetinaNet",
    "COCO-Keypoints/Base-Keypoint-RCNN-FPN",
)
MODELS = {
    "COCO-Detection": (
        "fast_rcnn_R_50_FPN_1x faster_rcnn_R_101_C4_3x faster_rcnn_R_101_DC5_3x faster_rcnn_R_101_FPN_3x "
        "faster_rcnn_R_50_C4_1x faster_rcnn_R_50_C4_3x faster_rcnn_R_50_DC5_1x faster_rcnn_R_50_DC5_3x "
        "faster_rcnn_R_50_FPN_1x faster_rcnn_R_50_FPN_3x faster_rcnn_X_101_32x8d_FPN_3x retinanet_R_101_FPN_3x "
        "retinanet_R_50_FPN_1x retinanet_R_50_FPN_3x rpn_R_50_C4_1x rpn_R_50_FPN_1x"
    ),
    "COCO-InstanceSegmentation": (
        "mask_rcnn_R_101_C4_3x mask_rcnn_R_101_DC5_3x mask_rcnn_R_101_FPN_3x mask_rcnn_R_50_C4_1x mask_rcnn_R_50_C4_3x "
        "mask_rcnn_R_50_DC5_1x mask_rcnn_R_50_DC5_3x mask_rcnn_R_50_FPN_1x mask_rcnn_R_50_FPN_1x_giou "
        "mask_rcnn_R_50_FPN_3x mask_rcnn_X_101_32x8d_FPN_3x"
    ),
    "COCO-Keypoints": (
        "keypoint_rcnn_R_101_FPN_3x keypoint_rcnn_R_50_FPN_1x keypoint_rcnn_R_50_FPN_3x "
        "keypoint_rcnn_X_101_32x8d_FPN_3x"
    ),
    "Cityscapes": "mask_rcnn_R_50_FPN",
    "Detectron1-Comparisons": "faster_rcnn_R_50_FPN_noaug_1x keypoint_rcnn_R_50_FPN_1x mask_rcnn_R_50_FPN_noaug_1x",
    "LVISv0.5-InstanceSegmentation": "mask_rcnn_R_101_FPN_1x mask_rcnn_R_50_FPN_1x mask_rcnn_X_101_32x8d_FPN_1x",
    "LVISv1-InstanceSegmentation": "mask_rcnn_R_101_FPN_1x mask_rcnn_R_50_FPN_1x mask_rcnn_X_101_32x8d_FPN_1x",
    "Misc": (
        "cascade_mask_rcnn_R_50_FPN_1x cascade_mask_rcnn_R_50_FPN_3x cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv "
        "mask_rcnn_R_50_FPN_1x_cls_agnostic mask_rcnn_R_50_FPN_1x_dconv_c3-c5 mask_rcnn_R_50_FPN_3x_dconv_c3-c5 "
        "mask_rcnn_R_50_FPN_3x_gn mask_rcnn_R_50_FPN_3x_syncbn scratch_mask_rcnn_R_50_FPN_3x_gn "
        "scratch_mask_rcnn_R_50_FPN_9x_gn scratch_mask_rcnn_R_50_FPN_9x_syncbn"
    ),
    "PascalVOC-Detection": "faster_rcnn_R_50_C4 faster_rcnn_R_50_FPN",
}
NAMES = [*BASES, *(f"{folder}/{stem}" for folder, stems in MODELS.items() for stem in stems.split())]


def _lines(cfg) -> set[str]:
    return {f"{name}: {value!r}" for name, value in flat(cfg)}


def configs() -> dict[str, list[str]]:
    """Each config → its values that are not the defaults', one line each."""
    defaults = _lines(get_cfg())
    return {name: sorted(_lines(get_config(f"{name}.yaml")) - defaults) for name in NAMES}


def weights() -> dict[str, str]:
    """Each config → the address of its trained weights, or "none"."""
    addresses = {}
    for name in NAMES:
        try:
            addresses[name] = get_checkpoint_url(f"{name}.yaml")
        except RuntimeError:
            addresses[name] = "none"
    return addresses


CASES = {"zoo_configs": configs, "zoo_weights": weights}
