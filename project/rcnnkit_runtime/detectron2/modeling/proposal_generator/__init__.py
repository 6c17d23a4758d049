"""Proposal generators: class-agnostic boxes that may hold an object."""

from detectron2.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY, build_proposal_generator
from detectron2.modeling.proposal_generator.rpn import RPN, RPN_HEAD_REGISTRY, StandardRPNHead, build_rpn_head

__all__ = [
    "PROPOSAL_GENERATOR_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "StandardRPNHead",
    "build_proposal_generator",
    "build_rpn_head",
]
