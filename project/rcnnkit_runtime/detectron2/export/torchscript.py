"""TorchScript: readable dumps of traced models. Scripting of whole detectors is left to stock Detectron2."""

import os
from typing import Any

import torch

from detectron2.export.torchscript_patch import freeze_training_mode
from detectron2.utils.file_io import PathManager

__all__ = ["dump_torchscript_IR", "scripting_with_instances"]


def scripting_with_instances(model: torch.nn.Module, fields: dict[str, Any]) -> torch.jit.ScriptModule:
    """Outside the built-in engine: scripting compiles sources as they are, and this engine's are not written for it.

    Raises:
        NotImplementedError: always; trace the model instead.
    """
    raise NotImplementedError(
        "detectron2.export.scripting_with_instances: the built-in engine traces models, it does not script them: "
        "use torch.jit.trace(adapter, adapter.flattened_inputs) with detectron2.export.TracingAdapter, "
        "or install Detectron2 and set RCNNKIT_ENGINE=detectron2"
    )


export_torchscript_with_instances = scripting_with_instances


def dump_torchscript_IR(model: torch.jit.ScriptModule, dir: str) -> None:
    """Write what a traced or scripted model holds, for reading.

    Args:
        model: a ScriptModule.
        dir: folder, made if absent, for ``model_ts_code.txt`` (each module's code), ``model_ts_IR.txt`` (each module's
            graph), ``model_ts_IR_inlined.txt`` (one graph) and ``model.txt`` (the tree of modules).
    """
    dir = os.path.expanduser(dir)
    PathManager.mkdirs(dir)
    with freeze_training_mode(model):
        texts = {
            "model_ts_code.txt": _code(model),
            "model_ts_IR.txt": model._c.dump_to_str(True, False, False),
            "model_ts_IR_inlined.txt": str(model.inlined_graph),
            "model.txt": str(model),
        }
    for name, text in texts.items():
        with PathManager.open(os.path.join(dir, name), "w") as file:
            file.write(text)


def _code(model: torch.jit.ScriptModule) -> str:
    """The code of each kind of module once, with the names of those that share it."""
    shared: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        text = getattr(module, "code", None)
        if isinstance(text, str):
            shared.setdefault(f"type={getattr(module, 'original_name', type(module).__name__)}\n{text}", []).append(
                name or "root model"
            )
    return "\n".join(f"Code for {', '.join(names)}, {text}\n{'-' * 80}" for text, names in shared.items())
