"""Meta-architectures: whole models."""

from detectron2.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from detectron2.modeling.meta_arch.rcnn import GeneralizedRCNN, ProposalNetwork

__all__ = ["META_ARCH_REGISTRY", "GeneralizedRCNN", "ProposalNetwork", "build_model"]
