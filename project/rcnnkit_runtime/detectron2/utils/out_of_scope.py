"""Names of Detectron2 outside this engine: they import, so that a project that mentions them runs; a use is refused.

`OUT_OF_SCOPE` lists whole modules, which have no file here: a finder behind Python's own makes them when they are
imported. Modules that are partly in scope take single names from `refused_class` and `refused_function`.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from detectron2.utils.registry import Registry

__all__ = ["OUT_OF_SCOPE", "refuse", "refused_class", "refused_function"]

# module → (what it is about, names): capitalised names are classes, *_REGISTRY registries, others functions
OUT_OF_SCOPE: dict[str, tuple[str, str]] = {
    "detectron2.data.datasets.cityscapes": ("Cityscapes", "load_cityscapes_instances load_cityscapes_semantic"),
    "detectron2.data.datasets.cityscapes_panoptic": (
        "panoptic segmentation",
        "get_cityscapes_panoptic_files load_cityscapes_panoptic register_all_cityscapes_panoptic",
    ),
    "detectron2.data.datasets.coco_panoptic": (
        "panoptic segmentation",
        "load_coco_panoptic_json merge_to_panoptic register_coco_panoptic register_coco_panoptic_separated",
    ),
    "detectron2.evaluation.cityscapes_evaluation": (
        "Cityscapes",
        "CityscapesEvaluator CityscapesInstanceEvaluator CityscapesSemSegEvaluator",
    ),
    "detectron2.evaluation.panoptic_evaluation": ("panoptic segmentation", "COCOPanopticEvaluator"),
    "detectron2.evaluation.rotated_coco_evaluation": ("rotated boxes", "RotatedCOCOEvaluator RotatedCOCOeval"),
    "detectron2.evaluation.sem_seg_evaluation": (
        "semantic segmentation",
        "SemSegEvaluator load_image_into_numpy_array",
    ),
    "detectron2.export.api": ("Caffe2 and ONNX", "Caffe2Model Caffe2Tracer"),
    "detectron2.export.caffe2_inference": ("Caffe2 and ONNX", "ProtobufDetectionModel ProtobufModel"),
    "detectron2.export.caffe2_modeling": (
        "Caffe2 and ONNX",
        "Caffe2GeneralizedRCNN Caffe2MetaArch Caffe2RetinaNet convert_batched_inputs_to_c2_format",
    ),
    "detectron2.export.caffe2_patch": (
        "Caffe2 and ONNX",
        "mock_fastrcnn_outputs_inference mock_keypoint_rcnn_inference mock_mask_rcnn_inference patch_generalized_rcnn",
    ),
    "detectron2.export.shared": ("Caffe2 and ONNX", "ScopedWS alias fetch_any_blob to_device"),
    "detectron2.layers.aspp": ("semantic segmentation", "ASPP"),
    "detectron2.modeling.backbone.mvit": (
        "transformer backbones",
        "MViT MultiScaleAttention MultiScaleBlock attention_pool",
    ),
    "detectron2.modeling.backbone.regnet": (
        "RegNet backbones",
        "AnyNet AnyStage BasicTransform BottleneckTransform RegNet ResBasicBlock ResBottleneckBlock ResStem SE "
        "SimpleStem VanillaBlock adjust_block_compatibility conv2d gap2d generate_regnet_parameters init_weights "
        "pool2d",
    ),
    "detectron2.modeling.backbone.swin": (
        "transformer backbones",
        "BasicLayer Mlp PatchEmbed PatchMerging SwinTransformer SwinTransformerBlock WindowAttention window_partition "
        "window_reverse",
    ),
    "detectron2.modeling.backbone.utils": (
        "transformer backbones",
        "PatchEmbed add_decomposed_rel_pos get_abs_pos get_rel_pos window_partition window_unpartition",
    ),
    "detectron2.modeling.backbone.vit": (
        "transformer backbones",
        "Attention Block ResBottleneckBlock SimpleFeaturePyramid ViT get_vit_lr_decay_rate",
    ),
    "detectron2.modeling.meta_arch.fcos": ("FCOS", "FCOS FCOSHead"),
    "detectron2.modeling.meta_arch.panoptic_fpn": (
        "panoptic segmentation",
        "PanopticFPN combine_semantic_and_instance_outputs",
    ),
    "detectron2.modeling.mmdet_wrapper": ("MMDetection's models", "MMDetBackbone MMDetDetector"),
    "detectron2.modeling.proposal_generator.rrpn": ("rotated boxes", "RRPN find_top_rrpn_proposals"),
    "detectron2.modeling.roi_heads.rotated_fast_rcnn": (
        "rotated boxes",
        "RROIHeads RotatedFastRCNNOutputLayers fast_rcnn_inference_rotated fast_rcnn_inference_single_image_rotated",
    ),
    "detectron2.tracking": (
        "tracking",
        "BBoxIOUTracker BaseHungarianTracker BaseTracker IOUWeightedHungarianBBoxIOUTracker TRACKER_HEADS_REGISTRY "
        "VanillaHungarianBBoxIOUTracker build_tracker_head create_prediction_pairs",
    ),
    "detectron2.tracking.base_tracker": ("tracking", "BaseTracker TRACKER_HEADS_REGISTRY build_tracker_head"),
    "detectron2.tracking.bbox_iou_tracker": ("tracking", "BBoxIOUTracker"),
    "detectron2.tracking.hungarian_tracker": ("tracking", "BaseHungarianTracker"),
    "detectron2.tracking.iou_weighted_hungarian_bbox_iou_tracker": ("tracking", "IOUWeightedHungarianBBoxIOUTracker"),
    "detectron2.tracking.utils": ("tracking", "create_prediction_pairs"),
    "detectron2.tracking.vanilla_hungarian_bbox_iou_tracker": ("tracking", "VanillaHungarianBBoxIOUTracker"),
}


def refuse(name: str, topic: str) -> NoReturn:
    """Say that a name belongs to a topic that this engine leaves out."""
    raise NotImplementedError(
        f"{name}: {topic} is outside the built-in engine; install Detectron2 and set RCNNKIT_ENGINE=detectron2"
    )


def refused_class(module: str, name: str, topic: str) -> type:
    """A class that can be imported, subclassed and asked by isinstance; making an instance of it is refused."""

    def __new__(cls: type, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"{module}.{name}", topic)

    text = f"Outside the built-in engine ({topic}): making one raises NotImplementedError."
    return type(name, (), {"__new__": __new__, "__module__": module, "__doc__": text})


def refused_function(module: str, name: str, topic: str) -> Callable[..., NoReturn]:
    """A function that can be imported; a call is refused."""

    def refused(*args: Any, **kwargs: Any) -> NoReturn:
        refuse(f"{module}.{name}", topic)

    refused.__name__ = refused.__qualname__ = name
    refused.__module__ = module
    refused.__doc__ = f"Outside the built-in engine ({topic}): a call raises NotImplementedError."
    return refused


def _make(module: str, name: str, topic: str) -> Any:
    if name.endswith("_REGISTRY"):
        return Registry(name.removesuffix("_REGISTRY"))
    return refused_class(module, name, topic) if name[0].isupper() else refused_function(module, name, topic)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the modules of the table."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in OUT_OF_SCOPE:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in OUT_OF_SCOPE)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        topic, names = OUT_OF_SCOPE[module.__name__]
        module.__doc__ = f"Outside the built-in engine ({topic}): the names import, a use raises NotImplementedError."
        parent = sys.modules.get(module.__name__.rpartition(".")[0])
        for name in names.split():
            # A name that a package of the table passes on is one object in both places.
            shared = getattr(parent, name, None) if parent and parent.__name__ in OUT_OF_SCOPE else None
            setattr(module, name, shared or _make(module.__name__, name, topic))


if not any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path):
    sys.meta_path.append(_Finder())
