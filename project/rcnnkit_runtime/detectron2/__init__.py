"""Detectron2's public API for the R-CNN family, implemented on torch, torchvision and fvcore (rcnnkit's built-in engine)."""

__version__ = "0.6"
