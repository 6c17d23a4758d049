"""Models for use outside of Python's eager mode: tracing by `TracingAdapter`; Caffe2 and ONNX only by name."""

from typing import Any

from detectron2.export import flatten, torchscript, torchscript_patch
from detectron2.export.api import Caffe2Model, Caffe2Tracer
from detectron2.export.flatten import TracingAdapter
from detectron2.export.torchscript import dump_torchscript_IR, scripting_with_instances

__all__ = [
    "STABLE_ONNX_OPSET_VERSION",
    "Caffe2Model",
    "Caffe2Tracer",
    "TracingAdapter",
    "add_export_config",
    "dump_torchscript_IR",
    "flatten",
    "scripting_with_instances",
    "torchscript",
    "torchscript_patch",
]

STABLE_ONNX_OPSET_VERSION = 11


def add_export_config(cfg: Any) -> Any:
    """Detectron2 wants this called before an export; there is nothing to add. Returns the config."""
    return cfg
