"""The plug-in's config keys, and the checks that a config passes before anything is built or written."""

from PIL import Image

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.config_augmentation import add_augmentation_config, check_augmentation_config
from rcnnkit.config_backbones import add_backbone_config
from rcnnkit.config_boxes import add_box_head_config, check_box_head
from rcnnkit.config_keypoints import add_keypoint_head_config, check_keypoint_head
from rcnnkit.config_masks import add_mask_head_config, check_mask_head
from rcnnkit.config_tasks import add_task_config, check_task_config
from rcnnkit.errors import UserError, nearest

OPTIMIZERS = ("SGD", "ADAMW")
MISMATCHES = ("heads", "classes", "none")
RATIO_SAMPLERS = ("TrainingSampler", "RepeatFactorTrainingSampler")
CHOICES = {
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
    "INPUT.FORMAT": ("BGR", "RGB", "L", "YUV-BT.601", *sorted(set(Image.MODES) - {"RGB", "L"})),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
}


def add_rcnnkit_config(cfg: CfgNode) -> None:
    """Add the keys of rcnnkit, each with its default, to a config of the engine."""
    # Data sets of one's own: [{"name": ..., "path": folder or file, ...}, ...]; then usable by name in DATASETS.TRAIN
    # and TEST, where a path itself, with or without @split, can stand too. See datasets/README.md for all fields.
    cfg.DATASETS.CUSTOM = []
    cfg.RCNNKIT = CfgNode()
    # Optimiser of all weights: "SGD" (momentum, as SOLVER.MOMENTUM and SOLVER.NESTEROV say) or "ADAMW".
    # AdamW: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, https://arxiv.org/abs/1711.05101
    # Learning rate, weight decay and clipping are SOLVER.* for both; AdamW wants about 1/20 of SGD's BASE_LR.
    cfg.RCNNKIT.OPTIMIZER = "SGD"
    # AdamW's decay rates of the gradient's first and second moment (no unit, 0 ≤ β < 1); defaults of the paper.
    cfg.RCNNKIT.ADAMW_BETAS = (0.9, 0.999)
    # A data set that is not divided into parts: fraction of its images (0 to 1) that path@val has and path@train has
    # not, and the seed by which they are drawn. An image's place depends on the seed and its file name only.
    cfg.RCNNKIT.HOLDOUT_FRACTION = 0.2
    cfg.RCNNKIT.HOLDOUT_SEED = 0
    # Whether train_net.py opens every image of its data sets before it begins (some milliseconds each).
    cfg.RCNNKIT.CHECK_IMAGES = True
    # Images without objects drawn in training per image with objects (0: none, 1: as many, ...), by repeating or
    # leaving out at random; with SAMPLER_TRAIN TrainingSampler or RepeatFactorTrainingSampler. -1: all as they are.
    # Data sets that rcnnkit reads (paths and DATASETS.CUSTOM) bring all their images; of catalogued ones
    # DATALOADER.FILTER_EMPTY_ANNOTATIONS, True by default, and MIN_KEYPOINTS_PER_IMAGE drop some first.
    cfg.RCNNKIT.NEGATIVES = -1.0
    # Images of more pixels (width × height) are refused before they are decoded. The default is the size from which
    # Pillow itself takes a file for a decompression bomb; as RGB it takes half a gibibyte.
    cfg.RCNNKIT.MAX_IMAGE_PIXELS = 178_956_970
    # Value of 16-bit grey that becomes white (1 to 65535): 4095 for cameras of 12 bits, 16383 for 14.
    cfg.RCNNKIT.WHITE_16BIT = 65535
    # Keypoints that are labelled without a box get the smallest one around them, grown on each side by this fraction of
    # its longer side (0 or more); 0.1: keypoints lie inside the outline of an animal or person, not on it.
    cfg.RCNNKIT.KEYPOINT_BOX_MARGIN = 0.1
    # Whether masks are evaluated by their boundaries too ("boundary" in the results), with a band of 2 % of the image's
    # diagonal. Cheng et al., "Boundary IoU", CVPR 2021, https://arxiv.org/abs/2103.16562
    cfg.RCNNKIT.BOUNDARY_AP = True
    # How MODEL.WEIGHTS may differ from the model that begins with them: "heads", in all but the backbone; "classes",
    # only in rows that belong to classes or keypoints; "none". What differs starts afresh, and the log names it.
    cfg.RCNNKIT.WEIGHTS_MISMATCH = "heads"
    add_augmentation_config(cfg)
    add_backbone_config(cfg)
    add_box_head_config(cfg)
    add_keypoint_head_config(cfg)
    add_mask_head_config(cfg)
    add_task_config(cfg)


def validate_config(cfg: CfgNode, eval_only: bool = False) -> None:
    """Check what can be known from the config and the catalogs alone.

    Args:
        eval_only: DATASETS.TRAIN is not used and may name what is not here.

    Raises:
        UserError: an unknown optimiser, scheduler, sampler or format, a number out of its range, an unregistered data
            set, or a number of classes or keypoints that contradicts what a registered data set says about itself.
    """
    if cfg.RCNNKIT.OPTIMIZER.upper() not in OPTIMIZERS:
        raise UserError(
            f"RCNNKIT.OPTIMIZER: {cfg.RCNNKIT.OPTIMIZER!r} is unknown; choose one of {', '.join(OPTIMIZERS)}"
        )
    if not all(0 <= beta < 1 for beta in cfg.RCNNKIT.ADAMW_BETAS):
        raise UserError(f"RCNNKIT.ADAMW_BETAS: {tuple(cfg.RCNNKIT.ADAMW_BETAS)}, each must lie in 0 ≤ β < 1")
    if cfg.RCNNKIT.WEIGHTS_MISMATCH not in MISMATCHES:
        raise UserError(
            f"RCNNKIT.WEIGHTS_MISMATCH: {cfg.RCNNKIT.WEIGHTS_MISMATCH!r} is unknown; choose one of "
            f"{', '.join(MISMATCHES)}"
        )
    _check_choices(cfg)
    _check_images(cfg)
    _check_negatives(cfg)
    check_augmentation_config(cfg)
    check_task_config(cfg)
    check_box_head(cfg)
    for key in ("TEST",) if eval_only else ("TRAIN", "TEST"):
        for name in cfg.DATASETS[key]:
            _check_registered(f"DATASETS.{key}", name)
            _check_classes(cfg, name)
            if cfg.MODEL.KEYPOINT_ON:
                _check_keypoints(cfg, name)
    if cfg.MODEL.KEYPOINT_ON:
        check_keypoint_head(cfg)
    if cfg.MODEL.MASK_ON:
        check_mask_head(cfg)


def _check_choices(cfg: CfgNode) -> None:
    for key, known in CHOICES.items():
        section, field = key.split(".")
        value = cfg[section][field]
        if value not in known:
            raise UserError(f"{key}: {value!r} is unknown; nearest: {', '.join(nearest(str(value), known, 4))}")
    if cfg.DATALOADER.NUM_WORKERS < 0:
        raise UserError(
            f"DATALOADER.NUM_WORKERS: {cfg.DATALOADER.NUM_WORKERS}; give 0 (load in the training process) or more"
        )


def _check_images(cfg: CfgNode) -> None:
    own = cfg.RCNNKIT
    if not 0 < own.HOLDOUT_FRACTION < 1:
        raise UserError(f"RCNNKIT.HOLDOUT_FRACTION: {own.HOLDOUT_FRACTION}; give a fraction between 0 and 1")
    if own.MAX_IMAGE_PIXELS < 1:
        raise UserError(f"RCNNKIT.MAX_IMAGE_PIXELS: {own.MAX_IMAGE_PIXELS}; give a number of pixels above 0")
    if not 1 <= own.WHITE_16BIT <= 65535:
        raise UserError(f"RCNNKIT.WHITE_16BIT: {own.WHITE_16BIT}; give a value from 1 to 65535")
    if not 0 <= own.KEYPOINT_BOX_MARGIN < float("inf"):
        raise UserError(f"RCNNKIT.KEYPOINT_BOX_MARGIN: {own.KEYPOINT_BOX_MARGIN}; give a fraction of at least 0")


def _check_negatives(cfg: CfgNode) -> None:
    ratio, sampler = cfg.RCNNKIT.NEGATIVES, cfg.DATALOADER.SAMPLER_TRAIN
    if not (ratio == -1 or 0 <= ratio < float("inf")):
        raise UserError(f"RCNNKIT.NEGATIVES: {ratio}; give -1 (all as they are), or a ratio of at least 0")
    if ratio >= 0 and sampler not in RATIO_SAMPLERS:
        raise UserError(
            f"RCNNKIT.NEGATIVES: {ratio} needs DATALOADER.SAMPLER_TRAIN {' or '.join(RATIO_SAMPLERS)}, not {sampler}"
        )


def _check_registered(key: str, name: str) -> None:
    known = list(DatasetCatalog.list())
    if name not in known:
        raise UserError(
            f"{key}: the data set {name!r} is not registered; of the {len(known)} that are, the nearest: "
            f"{', '.join(nearest(name, known, 8))}"
        )


def _check_classes(cfg: CfgNode, name: str) -> None:
    classes = MetadataCatalog.get(name).get("thing_classes")
    # A model without RoI heads finds objects of any class: it has no number of classes.
    if not classes or cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":
        return
    section = "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
    if len(classes) != cfg.MODEL[section].NUM_CLASSES:
        raise UserError(
            f"MODEL.{section}.NUM_CLASSES: {cfg.MODEL[section].NUM_CLASSES}, but the data set {name!r} has "
            f"{len(classes)} classes ({', '.join(classes[:8])}{', …' if len(classes) > 8 else ''}); "
            f"set it to {len(classes)}"
        )


def _check_keypoints(cfg: CfgNode, name: str) -> None:
    names = MetadataCatalog.get(name).get("keypoint_names")
    if not names:
        raise UserError(
            f"MODEL.KEYPOINT_ON: True, but the data set {name!r} names no keypoints (metadata keypoint_names)"
        )
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if count != len(names):
        raise UserError(
            f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS: {count}, but the data set {name!r} has {len(names)} keypoints "
            f"({', '.join(names)}); set it to {len(names)}"
        )
