"""The config keys of the box head's losses, and the checks of these and of Detectron2's beside them."""

from detectron2.config import CfgNode
from rcnnkit.errors import UserError, nearest

CLASS_LOSSES = ("cross_entropy", "class_balanced", "seesaw")
BOX_LOSSES = ("smooth_l1", "giou", "diou", "ciou")
POOLERS = ("ROIPool", "ROIAlign", "ROIAlignV2")
WITHOUT_BOX_HEAD = ("ProposalNetwork", "RetinaNet")


def add_box_head_config(cfg: CfgNode) -> None:
    """Add the keys, each with its default."""
    head = cfg.MODEL.ROI_BOX_HEAD
    # Loss of the class scores in training by rcnnkit's trainer: "cross_entropy", Detectron2's own; "class_balanced";
    # "seesaw". All predict by softmax, and their weights fit one another.
    head.CLS_LOSS_TYPE = "cross_entropy"
    # Cross-entropy by weights inverse to the classes' effective numbers of objects in DATASETS.TRAIN. Cui et al.,
    # "Class-balanced loss based on effective number of samples", CVPR 2019, https://arxiv.org/abs/1901.05555
    head.CLASS_BALANCED = CfgNode()
    # β (no unit, 0 ≤ β < 1): 0 weighs all alike, near 1 inverse to the count; the paper tries 0.9 to 0.9999.
    head.CLASS_BALANCED.BETA = 0.999
    # Rare classes are punished less by frequent ones. Wang et al., "Seesaw loss for long-tailed instance segmentation",
    # CVPR 2021, https://arxiv.org/abs/2008.10032, without its objectness branch: see docs/losses.md.
    head.SEESAW = CfgNode()
    # p of the mitigation (N_j / N_i)^p and q of the compensation (σ_j / σ_i)^q (no unit, 0 or more); the paper's.
    head.SEESAW.MITIGATION_POWER = 0.8
    head.SEESAW.COMPENSATION_POWER = 2.0


def check_box_head(cfg: CfgNode) -> None:
    """Check the keys, and Detectron2's kinds of box losses and of RoI pooling.

    Raises:
        UserError: an unknown name, a number out of its range, or a loss that the model has no use for.
    """
    model, head = cfg.MODEL, cfg.MODEL.ROI_BOX_HEAD
    _check_name("MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", head.CLS_LOSS_TYPE, CLASS_LOSSES)
    for section in ("ROI_BOX_HEAD", "RPN", "RETINANET"):
        _check_name(f"MODEL.{section}.BBOX_REG_LOSS_TYPE", model[section].BBOX_REG_LOSS_TYPE, BOX_LOSSES)
    _check_name("MODEL.ROI_BOX_HEAD.POOLER_TYPE", head.POOLER_TYPE, POOLERS)
    for section, on in (("ROI_MASK_HEAD", model.MASK_ON), ("ROI_KEYPOINT_HEAD", model.KEYPOINT_ON)):
        if on and model[section].POOLER_TYPE:  # empty: the head takes the feature maps themselves
            _check_name(f"MODEL.{section}.POOLER_TYPE", model[section].POOLER_TYPE, POOLERS)
    if not 0 <= head.CLASS_BALANCED.BETA < 1:
        raise UserError(f"MODEL.ROI_BOX_HEAD.CLASS_BALANCED.BETA: {head.CLASS_BALANCED.BETA}; give 0 ≤ β < 1")
    for key in ("MITIGATION_POWER", "COMPENSATION_POWER"):
        if not 0 <= head.SEESAW[key] < float("inf"):
            raise UserError(f"MODEL.ROI_BOX_HEAD.SEESAW.{key}: {head.SEESAW[key]}; give a number of at least 0")
    if head.CLS_LOSS_TYPE != "cross_entropy":
        _check_class_loss_fits(cfg)


def _check_class_loss_fits(cfg: CfgNode) -> None:
    key, head = "MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", cfg.MODEL.ROI_BOX_HEAD
    if head.USE_SIGMOID_CE:
        raise UserError(
            f"{key}: {head.CLS_LOSS_TYPE!r} is a softmax loss, but MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE is True; set the "
            "one to 'cross_entropy' or the other to False"
        )
    if cfg.MODEL.META_ARCHITECTURE in WITHOUT_BOX_HEAD:
        raise UserError(
            f"{key}: {head.CLS_LOSS_TYPE!r} is of a box head, which {cfg.MODEL.META_ARCHITECTURE} does not have; "
            "set it to 'cross_entropy'"
        )


def _check_name(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{key}: {value!r} is unknown; choose one of {', '.join(_all_nearest_first(value, known))}")


def _all_nearest_first(value: str, known: tuple[str, ...]) -> list[str]:
    near = nearest(value, known, len(known))
    return [*near, *(name for name in known if name not in near)]
