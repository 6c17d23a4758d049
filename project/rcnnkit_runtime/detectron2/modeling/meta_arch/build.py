"""Registry of meta-architectures: whole models."""

import torch
from torch import nn

from detectron2.utils.registry import Registry

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """
Whole models, called as ``model(cfg)``; each returns an ``nn.Module`` that takes a list of dicts, one per image.
"""


def build_model(cfg) -> nn.Module:
    """The model named by ``cfg.MODEL.META_ARCHITECTURE`` on ``cfg.MODEL.DEVICE``; weights are not loaded."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
