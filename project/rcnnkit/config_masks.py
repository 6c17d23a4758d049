"""The config keys of rcnnkit's mask heads, and their checks."""

from detectron2.config import CfgNode
from rcnnkit.errors import UserError

# keys below MODEL.ROI_MASK_HEAD
LEAST = {
    "QUALITY.NUM_CONV": 1,
    "QUALITY.CONV_DIM": 1,
    "QUALITY.FC_DIM": 1,
    "BOUNDARY.DETAIL_DIM": 1,
    "BOUNDARY.DETAIL_STRIDE": 1,
    "BOUNDARY.BAND_WIDTH": 1,
    "BOUNDARY.MAX_FINE_ROIS": 0,
}
FACTORS = ("QUALITY.LOSS_WEIGHT", "BOUNDARY.DICE_WEIGHT", "BOUNDARY.LOSS_WEIGHT")


def add_mask_head_config(cfg: CfgNode) -> None:
    """Keys of rcnnkit's mask heads, of which MODEL.ROI_MASK_HEAD.NAME chooses one."""
    # Most boxes that TaskROIHeads with any mask head, or rcnnkit's mask heads with any RoI heads, learn masks from in a
    # step of one process, drawn at random where there are more; 0: all, as Detectron2. Memory grows with it.
    cfg.RCNNKIT.MAX_MASK_ROIS = 0
    head = cfg.MODEL.ROI_MASK_HEAD
    # NAME MaskQualityHead: predicts the IoU of each mask beside any other mask head. Huang et al., "Mask Scoring
    # R-CNN", CVPR 2019, arXiv 1903.00241; the sizes of its section 4.2.
    head.QUALITY = CfgNode()
    # The mask head whose masks are judged: a name of the same registry.
    head.QUALITY.MASK_HEAD = "MaskRCNNConvUpsampleHead"
    # Number of 3 × 3 convolutions (1 or more; the last has stride 2), their channels, and those of the linear layers.
    head.QUALITY.NUM_CONV = 4
    head.QUALITY.CONV_DIM = 256
    head.QUALITY.FC_DIM = 1024
    # Factor of its loss, the mean squared error of the IoU (no unit, 0 or more).
    head.QUALITY.LOSS_WEIGHT = 1.0
    # NAME BoundaryMaskHead, with POOLER_TYPE "": masks of 8 × POOLER_RESOLUTION, refined in three steps along their
    # outline. Zhang et al., "RefineMask", CVPR 2021, arXiv 2104.08569. NUM_CONV, CONV_DIM (halved in each step) and
    # NORM are those of the convolutions before the first mask.
    head.BOUNDARY = CfgNode()
    # The detail map: its channels, and its stride in pixels: that of the finest of ROI_HEADS.IN_FEATURES (4 of p2), a
    # half or a quarter of it; our own.
    head.BOUNDARY.DETAIL_DIM = 64
    head.BOUNDARY.DETAIL_STRIDE = 2
    # Width of the band on each side of an outline where the next finer mask is learnt and taken, in cells of the
    # coarser one (1 or more); 2 as in the paper.
    head.BOUNDARY.BAND_WIDTH = 2
    # Of the boxes that a step learns from, the most that the two finest masks learn from, drawn at random; 0: all. Time
    # and memory grow with it; our own.
    head.BOUNDARY.MAX_FINE_ROIS = 64
    # Factor of a dice loss (Milletari et al., arXiv 1606.04797) beside the cross-entropy of the two coarser masks (no
    # unit, 0 or more).
    head.BOUNDARY.DICE_WEIGHT = 0.0
    # Factor of its losses, which are weighed 0.25, 0.5, 0.75 and 1 from coarse to fine as the paper's authors do (no
    # unit, 0 or more).
    head.BOUNDARY.LOSS_WEIGHT = 1.0


def check_mask_head(cfg: CfgNode) -> None:
    """Check the keys.

    Raises:
        UserError: a number out of its range, or a head that is to judge its own masks.
    """
    if cfg.RCNNKIT.MAX_MASK_ROIS < 0:
        raise UserError(f"RCNNKIT.MAX_MASK_ROIS: {cfg.RCNNKIT.MAX_MASK_ROIS}; give a number of boxes, or 0 for all")
    own = cfg.MODEL.ROI_MASK_HEAD.QUALITY
    if own.MASK_HEAD == "MaskQualityHead":
        raise UserError("MODEL.ROI_MASK_HEAD.QUALITY.MASK_HEAD: MaskQualityHead judges the masks of another head")
    _check_numbers(cfg.MODEL.ROI_MASK_HEAD)
    if "BoundaryMaskHead" in (cfg.MODEL.ROI_MASK_HEAD.NAME, own.MASK_HEAD):
        _check_boundary(cfg.MODEL.ROI_MASK_HEAD)


def _check_numbers(head: CfgNode) -> None:
    """The least of counts and sizes, and factors of losses, of all own heads, whichever is named."""
    for key, least in LEAST.items():
        value = _value(head, key)
        if value < least:
            raise UserError(f"MODEL.ROI_MASK_HEAD.{key}: {value}; give {least} or more")
    for key in FACTORS:
        value = _value(head, key)
        if not 0 <= value < float("inf"):
            raise UserError(f"MODEL.ROI_MASK_HEAD.{key}: {value}; give a factor of at least 0")


def _value(head: CfgNode, key: str) -> float:
    section, name = key.split(".")
    return head[section][name]


def _check_boundary(head: CfgNode) -> None:
    own, section = head.BOUNDARY, "MODEL.ROI_MASK_HEAD"
    if head.POOLER_TYPE:
        raise UserError(
            f'{section}.POOLER_TYPE: {head.POOLER_TYPE!r}; BoundaryMaskHead pools its features itself: set it to ""'
        )
    for key, least in (("NUM_CONV", 1), ("POOLER_RESOLUTION", 1)):
        if head[key] < least:
            raise UserError(f"{section}.{key}: {head[key]}; BoundaryMaskHead needs {least} or more")
    # CONV_DIM is halved three times; group norm has 32 groups, and is that of CONV_DIM / 2 and 4 DETAIL_DIM channels
    for name, value, divisor in (
        ("CONV_DIM", head.CONV_DIM, 64 if head.NORM == "GN" else 8),
        ("BOUNDARY.DETAIL_DIM", own.DETAIL_DIM, 8 if head.NORM == "GN" else 1),
    ):
        if value < 1 or value % divisor:
            raise UserError(f"{section}.{name}: {value}; with NORM {head.NORM!r} give a multiple of {divisor}")
