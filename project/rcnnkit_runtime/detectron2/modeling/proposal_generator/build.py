"""Registry of proposal generators."""

from torch import nn

from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
PROPOSAL_GENERATOR_REGISTRY.__doc__ = """
Proposal generators, called as ``generator(cfg, input_shape)`` with a ``CfgNode`` and a dict of ``ShapeSpec``; forward
takes images, features and, in training, ground truth and returns proposals and a dict of losses.
"""


def build_proposal_generator(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """The generator named by ``cfg.MODEL.PROPOSAL_GENERATOR.NAME``; None for ``PrecomputedProposals``."""
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
