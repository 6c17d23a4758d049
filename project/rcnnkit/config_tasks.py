"""Keys of MultiTaskRCNN: MODEL.META_ARCHITECTURE MultiTaskRCNN, MODEL.PROPOSAL_GENERATOR.NAME IgnoringRPN, and
MODEL.ROI_HEADS.NAME TaskROIHeads or CascadeTaskROIHeads."""

import logging

from detectron2.config import CfgNode
from rcnnkit.errors import UserError, nearest

BALANCES = ("fixed", "uncertainty")
# parts of Detectron2 that learn ignored regions as background, and what to take in their place
UNAWARE = {
    "RPN": "IgnoringRPN",
    "StandardROIHeads": "TaskROIHeads",
    "Res5ROIHeads": "TaskROIHeads, and an FPN (see configs/multi_task)",
    "CascadeROIHeads": "CascadeTaskROIHeads",
}
logger = logging.getLogger(__name__)


def add_task_config(cfg: CfgNode) -> None:
    """Add the keys, each with its default."""
    # Classes of the tasks that TaskROIHeads compute on each box, in this order; a task has its own condition too, as
    # MODEL.MASK_ON and KEYPOINT_ON. A new one: see project/rcnnkit/modeling/roi_heads/tasks.py.
    cfg.RCNNKIT.ROI_TASKS = ("MaskTask", "KeypointTask")
    # Anchors and proposals with at least this share of their area (0 to 1) in one crowd or ignored box are not learnt
    # as background; above 1: all are. 0.5: that of COCO's evaluation at its lowest threshold, where a detection with
    # half of its area in a crowd is no false positive, https://cocodataset.org/#detection-eval
    cfg.RCNNKIT.IGNORE_IOA = 0.5
    # "fixed": the losses of a task times its weight; "uncertainty": the weights are learnt, each 1/σ² of its task.
    # Kendall et al., "Multi-task learning using uncertainty to weigh losses", CVPR 2018, https://arxiv.org/abs/1705.07115
    cfg.RCNNKIT.TASK_BALANCE = "fixed"
    # [[task, weight], ...] of those that do not have 1 (no unit, 0 or more); what "uncertainty" begins with (above 0).
    # Tasks: rpn, box, and the RoI tasks' (mask, keypoint). They come on top of the loss weights under MODEL.
    cfg.RCNNKIT.TASK_WEIGHTS = []


def check_task_config(cfg: CfgNode) -> None:
    """Refuse values out of their range; warn of parts that undo what MultiTaskRCNN is for.

    Raises:
        UserError: with the key, the value and what to do.
    """
    own = cfg.RCNNKIT
    _warn_of_strangers(cfg)
    if own.TASK_BALANCE not in BALANCES:
        close = ", ".join(nearest(own.TASK_BALANCE, BALANCES))
        raise UserError(f"RCNNKIT.TASK_BALANCE: {own.TASK_BALANCE!r} is unknown; nearest: {close}")
    if not own.IGNORE_IOA > 0:
        raise UserError(f"RCNNKIT.IGNORE_IOA: {own.IGNORE_IOA}; give a share of the area above 0")
    for entry in own.TASK_WEIGHTS:
        if not _is_weight(entry):
            raise UserError(f"RCNNKIT.TASK_WEIGHTS: {entry}; give pairs of a task and a weight of at least 0")
        if entry[1] == 0 and own.TASK_BALANCE == "uncertainty":
            raise UserError(f"RCNNKIT.TASK_WEIGHTS: {entry}; a weight that is learnt begins above 0")
    if own.TASK_BALANCE != "fixed" or own.TASK_WEIGHTS:
        key = "TASK_WEIGHTS" if own.TASK_BALANCE == "fixed" else "TASK_BALANCE"
        if cfg.MODEL.META_ARCHITECTURE != "MultiTaskRCNN":
            name = cfg.MODEL.META_ARCHITECTURE
            raise UserError(f"RCNNKIT.{key}: {name} weighs no tasks; set MODEL.META_ARCHITECTURE to MultiTaskRCNN")
        heads = cfg.MODEL.ROI_HEADS.NAME
        if heads in UNAWARE:
            raise UserError(
                f"RCNNKIT.{key}: {heads} tells no tasks apart; set MODEL.ROI_HEADS.NAME to {UNAWARE[heads]}"
            )


def _is_weight(entry: object) -> bool:
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not isinstance(entry[0], str):
        return False
    weight = entry[1]
    return isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < float("inf")


def _warn_of_strangers(cfg: CfgNode) -> None:
    """Ignored regions reach their parts only where all are rcnnkit's."""
    names = {f"MODEL.{key}.NAME": cfg.MODEL[key].NAME for key in ("PROPOSAL_GENERATOR", "ROI_HEADS")}
    if cfg.MODEL.META_ARCHITECTURE == "MultiTaskRCNN":
        for key, name in names.items():
            if name in UNAWARE:
                text = "%s: %s learns ignored regions and crowds as background; MultiTaskRCNN wants %s"
                logger.warning(text, key, name, UNAWARE[name])
        return
    for key, name in names.items():
        if name in UNAWARE.values():
            text = "%s: %s gets no ignored regions from %s; they are handed on by MODEL.META_ARCHITECTURE MultiTaskRCNN"
            logger.warning(text, key, name, cfg.MODEL.META_ARCHITECTURE)
