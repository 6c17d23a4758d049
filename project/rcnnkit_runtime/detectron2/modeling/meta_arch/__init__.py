"""Meta-architectures: whole models."""

from detectron2.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.modeling.meta_arch.panoptic_fpn import PanopticFPN
from detectron2.modeling.meta_arch.rcnn import GeneralizedRCNN, ProposalNetwork
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY, SemanticSegmentor, build_sem_seg_head

# Configs name these, and get their refusal.
META_ARCH_REGISTRY.register(PanopticFPN)
META_ARCH_REGISTRY.register(SemanticSegmentor)

__all__ = [
    "DenseDetector",
    "FCOS",
    "GeneralizedRCNN",
    "META_ARCH_REGISTRY",
    "PanopticFPN",
    "ProposalNetwork",
    "RetinaNet",
    "SEM_SEG_HEADS_REGISTRY",
    "SemanticSegmentor",
    "build_model",
    "build_sem_seg_head",
]
