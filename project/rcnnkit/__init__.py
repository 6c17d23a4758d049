"""rcnnkit: a Detectron2 plug-in to fine-tune Faster, Mask and Keypoint R-CNN, with an engine of its own."""

import importlib

from rcnnkit.engine_choice import activate_engine

__version__ = "0.1.0"

activate_engine()
for _folder in ("data", "modeling"):
    importlib.import_module(f"rcnnkit.{_folder}")  # registers; not before the engine is chosen
