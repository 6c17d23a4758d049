"""Saving and loading of models and trainers: whole files or none, read without running code."""

from detectron2.checkpoint import catalog as _catalog  # registers catalog:// with the PathManager
from detectron2.checkpoint.checkpointer import Checkpointer, PeriodicCheckpointer
from detectron2.checkpoint.detection_checkpoint import DetectionCheckpointer
from detectron2.checkpoint.load_report import LoadReport
from detectron2.checkpoint.safe_reading import CheckpointError

__all__ = ["CheckpointError", "Checkpointer", "DetectionCheckpointer", "LoadReport", "PeriodicCheckpointer"]

del _catalog
