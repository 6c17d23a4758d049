"""Keys of MultiTaskRCNN: MODEL.META_ARCHITECTURE MultiTaskRCNN, MODEL.PROPOSAL_GENERATOR.NAME IgnoringRPN, and
MODEL.ROI_HEADS.NAME TaskROIHeads or CascadeTaskROIHeads."""

import logging

from detectron2.config import CfgNode
from rcnnkit.errors import UserError, nearest

BALANCES = ("fixed", "uncertainty")
# parts of Detectron2 that learn ignored regions as background, and what to take in their place
UNAWARE = {"RPN": "IgnoringRPN", "StandardROIHeads": "TaskROIHeads", "CascadeROIHeads": "CascadeTaskROIHeads"}
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
    if cfg.MODEL.META_ARCHITECTURE == "MultiTaskRCNN":
        for key in ("PROPOSAL_GENERATOR", "ROI_HEADS"):
            name = cfg.MODEL[key].NAME
            if name in UNAWARE:
                text = "MODEL.%s.NAME: %s learns ignored regions and crowds as background; MultiTaskRCNN wants %s"
                logger.warning(text, key, name, UNAWARE[name])
    own = cfg.RCNNKIT
    if own.TASK_BALANCE not in BALANCES:
        close = ", ".join(nearest(own.TASK_BALANCE, BALANCES))
        raise UserError(f"RCNNKIT.TASK_BALANCE: {own.TASK_BALANCE!r} is unknown; nearest: {close}")
    if not own.IGNORE_IOA > 0:
        raise UserError(f"RCNNKIT.IGNORE_IOA: {own.IGNORE_IOA}; give a share of the area above 0")
    for entry in own.TASK_WEIGHTS:
        if len(entry) != 2 or not isinstance(entry[1], int | float) or not 0 <= entry[1] < float("inf"):
            raise UserError(f"RCNNKIT.TASK_WEIGHTS: {entry}; give pairs of a task and a weight of at least 0")
        if entry[1] == 0 and own.TASK_BALANCE == "uncertainty":
            raise UserError(f"RCNNKIT.TASK_WEIGHTS: {entry}; a weight that is learnt begins above 0")
