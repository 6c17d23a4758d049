"""Losses of the box head's class scores, for classes of which some have few objects."""

from .class_losses import class_balanced_loss, class_balanced_weights, seesaw_log_factors, seesaw_loss
from .predictor import ClassBalancedLoss, ClassLossOutputLayers, SeesawLoss, build_class_loss, use_class_loss

__all__ = [
    "ClassBalancedLoss",
    "ClassLossOutputLayers",
    "SeesawLoss",
    "build_class_loss",
    "class_balanced_loss",
    "class_balanced_weights",
    "seesaw_log_factors",
    "seesaw_loss",
    "use_class_loss",
]
