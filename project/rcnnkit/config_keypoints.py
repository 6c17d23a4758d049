"""The config keys of rcnnkit's keypoint heads, and their checks."""

from detectron2.config import CfgNode
from rcnnkit.errors import UserError
from rcnnkit.modeling.keypoint_heads.peaks import window_size


def add_keypoint_head_config(cfg: CfgNode) -> None:
    """Keys of rcnnkit's keypoint heads, of which MODEL.ROI_KEYPOINT_HEAD.NAME chooses one."""
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    # Per class, in the order of the classes, the indices of its keypoints; [] as a whole: every class has all. Points
    # that a class does not have are neither learnt nor found (score 0). With data of one's own it follows from these.
    head.CLASS_KEYPOINTS = []
    # NAME SubpixelKeypointHead: heatmaps of twice POOLER_RESOLUTION on the convolutions of CONV_DIMS. Zhang et al.,
    # "Distribution-aware coordinate representation for human pose estimation", CVPR 2020, arXiv 1910.06278
    head.SUBPIXEL = CfgNode()
    # Standard deviation of a point's Gaussian, in cells of the heatmap (above 0). The paper has 2 of 64 or 48 cells;
    # here a side has 28 with POOLER_RESOLUTION 14.
    head.SUBPIXEL.SIGMA = 1.0
    # Factor of the visibility's loss, relative to LOSS_WEIGHT (no unit, 0 or more); our own: it shall not rule the
    # features that places are found by.
    head.SUBPIXEL.VISIBILITY_LOSS_WEIGHT = 0.1
    # NAME CoordinateKeypointHead: x and y as classifications. Li et al., "SimCC: a simple coordinate classification
    # perspective for human pose estimation", ECCV 2022, arXiv 2107.03332
    head.COORDINATE = CfgNode()
    # Number of 3 × 3 convolutions, their channels and normalisation ("", "GN", "BN", ...).
    head.COORDINATE.NUM_CONV = 4
    head.COORDINATE.CONV_DIM = 256
    head.COORDINATE.NORM = ""
    # Bins for each cell of the pooled features: with POOLER_RESOLUTION 14 there are 56 along each side of the box.
    head.COORDINATE.BINS_PER_CELL = 4
    # Standard deviation of a coordinate's Gaussian, in bins (above 0); our own, half a cell of the pooled features.
    head.COORDINATE.SIGMA = 2.0


def check_keypoint_head(cfg: CfgNode) -> None:
    """Check the keys, and that the lists of keypoints are those of the classes.

    Raises:
        UserError: a number out of its range, another number of lists than of classes, or a keypoint that is not there.
    """
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    for section in ("SUBPIXEL", "COORDINATE"):
        sigma = head[section].SIGMA
        if not 0 < sigma < float("inf"):
            raise UserError(f"MODEL.ROI_KEYPOINT_HEAD.{section}.SIGMA: {sigma}; give a finite number above 0")
    for key, least in (("BINS_PER_CELL", 1), ("CONV_DIM", 1), ("NUM_CONV", 0)):
        if head.COORDINATE[key] < least:
            raise UserError(f"MODEL.ROI_KEYPOINT_HEAD.COORDINATE.{key}: {head.COORDINATE[key]}; give {least} or more")
    if not 0 <= head.SUBPIXEL.VISIBILITY_LOSS_WEIGHT < float("inf"):
        raise UserError(
            f"MODEL.ROI_KEYPOINT_HEAD.SUBPIXEL.VISIBILITY_LOSS_WEIGHT: {head.SUBPIXEL.VISIBILITY_LOSS_WEIGHT}; give a "
            "factor of at least 0"
        )
    _check_peaks_fit(head)
    if not head.CLASS_KEYPOINTS:
        return
    key, classes = "MODEL.ROI_KEYPOINT_HEAD.CLASS_KEYPOINTS", cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if len(head.CLASS_KEYPOINTS) != classes:
        raise UserError(
            f"{key}: {len(head.CLASS_KEYPOINTS)} lists, but there are {classes} classes; give one list for each, "
            "empty for a class without keypoints"
        )
    for number, indices in enumerate(head.CLASS_KEYPOINTS):
        beyond = [index for index in indices if not 0 <= index < head.NUM_KEYPOINTS]
        if beyond:
            raise UserError(
                f"{key}: class {number} has the point {beyond[0]}, but NUM_KEYPOINTS is {head.NUM_KEYPOINTS}; "
                f"indices go from 0 to {head.NUM_KEYPOINTS - 1}"
            )


def _check_peaks_fit(head: CfgNode) -> None:
    """The window in which a peak is decoded must fit into the map, which would else be told at the first evaluation."""
    own = {
        "SubpixelKeypointHead": ("SUBPIXEL", 2 * head.POOLER_RESOLUTION),
        "CoordinateKeypointHead": ("COORDINATE", head.COORDINATE.BINS_PER_CELL * head.POOLER_RESOLUTION),
    }
    if head.NAME not in own:
        return
    section, positions = own[head.NAME]
    sigma = head[section].SIGMA
    if window_size(sigma) > positions:
        raise UserError(
            f"MODEL.ROI_KEYPOINT_HEAD.{section}.SIGMA: {sigma} needs a window of {window_size(sigma)} positions, and a "
            f"side has {positions}; give a smaller one, or a larger POOLER_RESOLUTION"
        )
