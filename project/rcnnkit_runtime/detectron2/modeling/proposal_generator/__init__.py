"""Proposal generators: class-agnostic boxes that may hold an object."""

from detectron2.modeling.proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY, build_proposal_generator
from detectron2.modeling.proposal_generator.rpn import RPN, RPN_HEAD_REGISTRY, StandardRPNHead, build_rpn_head
from detectron2.modeling.proposal_generator.rrpn import RRPN

PROPOSAL_GENERATOR_REGISTRY.register(RRPN)  # configs name it, and get its refusal

__all__ = [
    "PROPOSAL_GENERATOR_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "RRPN",
    "StandardRPNHead",
    "build_proposal_generator",
    "build_rpn_head",
]
