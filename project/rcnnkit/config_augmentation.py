"""Keys of rcnnkit's augmentations of training images; all are off by default."""

import math
from collections.abc import Sequence

from detectron2.config import CfgNode
from rcnnkit.errors import UserError, nearest

COLOUR_FORMATS = ("BGR", "RGB", "L")
POLICY_OPERATIONS = (
    *("identity", "autocontrast", "equalize", "solarize", "posterize", "color", "contrast", "brightness", "sharpness"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)


def add_augmentation_config(cfg: CfgNode) -> None:
    """Add the keys, each with its default."""
    cfg.RCNNKIT.AUGMENTATION = own = CfgNode()
    # Value (0 to 255, all channels) of pixels that come from outside the image; 128: that of Detectron2's padding.
    own.FILL = 128.0
    # Large-scale jitter in place of INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN: a resize by a factor between the two of
    # SCALE (1: the image just fits into SIZE, (height, width) in pixels), then a random crop to at most SIZE. Defaults:
    # Ghiasi et al., "Simple copy-paste", CVPR 2021, https://arxiv.org/abs/2012.07177, section 3
    own.SCALE_JITTER = CfgNode()
    own.SCALE_JITTER.ENABLED = False
    own.SCALE_JITTER.SCALE = (0.1, 2.0)
    own.SCALE_JITTER.SIZE = (1024, 1024)
    # With probability PROB a crop that cuts no object: a window of sides between the two of SCALE (relative to the
    # image's), around an object, grown until each object is in it whole or not at all. 0.3 as the smallest side:
    # Liu et al., "SSD", ECCV 2016, https://arxiv.org/abs/1512.02325, as it is commonly implemented.
    own.OBJECT_CROP = CfgNode()
    own.OBJECT_CROP.PROB = 0.0
    own.OBJECT_CROP.SCALE = (0.3, 1.0)
    # With probability PROB a rotation about the image's middle by (least, most) degrees counter-clockwise; the image
    # keeps its size. Boxes follow the ellipse inside them where the object has no mask: Kalra et al., "Towards rotation
    # invariance in object detection", ICCV 2021, https://arxiv.org/abs/2109.13488
    own.ROTATION = CfgNode()
    own.ROTATION.PROB = 0.0
    own.ROTATION.DEGREES = (-10.0, 10.0)
    # Each of four changes with probability PROB, by at most: BRIGHTNESS, share of white; CONTRAST and SATURATION,
    # relative; HUE, degrees. SSD (Liu et al., ECCV 2016, section 2.2, "Data augmentation") names such distortions and
    # Howard 2013, but no ranges; the numbers are those of its authors' implementation: 32 of 255, 0.5, 0.5, 18.
    own.PHOTOMETRIC = CfgNode()
    own.PHOTOMETRIC.PROB = 0.0
    own.PHOTOMETRIC.BRIGHTNESS = 0.125
    own.PHOTOMETRIC.CONTRAST = 0.5
    own.PHOTOMETRIC.SATURATION = 0.5
    own.PHOTOMETRIC.HUE = 18.0
    # COUNT operations for each image, drawn from OPERATIONS, all with MAGNITUDE (0 to 10). COUNT 0: none; the paper's
    # for COCO is 1 with magnitude 5. Cubuk et al., "RandAugment", CVPR workshops 2020, https://arxiv.org/abs/1909.13719
    own.RANDOM_POLICY = CfgNode()
    own.RANDOM_POLICY.COUNT = 0
    own.RANDOM_POLICY.MAGNITUDE = 5.0
    own.RANDOM_POLICY.OPERATIONS = POLICY_OPERATIONS
    _add_combinations(own)


def _add_combinations(own: CfgNode) -> None:
    """What puts several augmented images of the training set together."""
    # With probability PROB other objects are pasted onto the image: of another image, augmented alike, a random subset
    # of the objects with masks, at most MAX_OBJECTS, with an edge softened by a Gaussian of BLEND_SIGMA pixels (0: a
    # hard edge, which the paper found as good). Needs MODEL.MASK_ON and INPUT.MASK_FORMAT bitmask. Ghiasi et al.,
    # "Simple copy-paste", CVPR 2021, https://arxiv.org/abs/2012.07177; the width of the edge is ours, the paper names
    # none, and 100 is MMDetection's most.
    own.COPY_PASTE = CfgNode()
    own.COPY_PASTE.PROB = 0.0
    own.COPY_PASTE.MAX_OBJECTS = 100
    own.COPY_PASTE.BLEND_SIGMA = 1.0
    # With probability PROB the image and three others, augmented alike, share the image's frame, around a point at
    # (least, most) CENTER of each side. Masks need INPUT.MASK_FORMAT bitmask. Bochkovskiy et al., "YOLOv4", 2020,
    # https://arxiv.org/abs/2004.10934; the range is that of its implementation.
    own.MOSAIC = CfgNode()
    own.MOSAIC.PROB = 0.0
    own.MOSAIC.CENTER = (0.2, 0.8)
    # An object that copy-paste covers or mosaic cuts stays if at least this share (0 to 1) and this number of the
    # pixels of its mask, without one of its box, are left. The papers drop what is gone entirely; a tenth is what
    # Ultralytics' mosaic asks for, the number is ours.
    own.MIN_LEFT_SHARE = 0.1
    own.MIN_LEFT_PIXELS = 16


def check_augmentation_config(cfg: CfgNode) -> None:
    """Refuse values out of their range.

    Raises:
        UserError: with the key, the value and what to do.
    """
    own, key = cfg.RCNNKIT.AUGMENTATION, "RCNNKIT.AUGMENTATION"
    for section in ("OBJECT_CROP", "ROTATION", "PHOTOMETRIC", "COPY_PASTE", "MOSAIC"):
        if not 0 <= own[section].PROB <= 1:
            raise UserError(f"{key}.{section}.PROB: {own[section].PROB}; give a probability from 0 to 1")
    if not 0 <= own.FILL <= 255:
        raise UserError(f"{key}.FILL: {own.FILL}; give a value from 0 to 255")
    if not _is_range(own.OBJECT_CROP.SCALE, above=0, most=1):
        raise UserError(f"{key}.OBJECT_CROP.SCALE: {own.OBJECT_CROP.SCALE}; give two shares, 0 < least ≤ most ≤ 1")
    if not _is_range(own.ROTATION.DEGREES):
        raise UserError(f"{key}.ROTATION.DEGREES: {own.ROTATION.DEGREES}; give two angles, the smaller one first")
    if not _is_range(own.SCALE_JITTER.SCALE, above=0):
        raise UserError(f"{key}.SCALE_JITTER.SCALE: {own.SCALE_JITTER.SCALE}; give two factors, 0 < least ≤ most")
    size = own.SCALE_JITTER.SIZE
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise UserError(f"{key}.SCALE_JITTER.SIZE: {size}; give (height, width) in whole pixels")
    _check_colours(cfg)
    _check_combinations(cfg)


def _is_range(values: Sequence[float], above: float = -math.inf, most: float = math.inf) -> bool:
    """Two finite numbers, above < least ≤ greatest ≤ most."""
    return len(values) == 2 and all(map(math.isfinite, values)) and above < values[0] <= values[1] <= most


def _check_colours(cfg: CfgNode) -> None:
    own, key = cfg.RCNNKIT.AUGMENTATION, "RCNNKIT.AUGMENTATION"
    light, policy = own.PHOTOMETRIC, own.RANDOM_POLICY
    for name, most in (("BRIGHTNESS", 1), ("CONTRAST", 1), ("SATURATION", 1), ("HUE", 180)):
        if not 0 <= light[name] <= most:
            raise UserError(f"{key}.PHOTOMETRIC.{name}: {light[name]}; give a number from 0 to {most}")
    if policy.COUNT < 0:
        raise UserError(f"{key}.RANDOM_POLICY.COUNT: {policy.COUNT}; give a number of operations, 0 or more")
    if not 0 <= policy.MAGNITUDE <= 10:
        raise UserError(f"{key}.RANDOM_POLICY.MAGNITUDE: {policy.MAGNITUDE}; give a number from 0 to 10")
    if policy.COUNT and not policy.OPERATIONS:
        raise UserError(f"{key}.RANDOM_POLICY.OPERATIONS: none; name at least one, or set COUNT to 0")
    for name in policy.OPERATIONS:
        if name not in POLICY_OPERATIONS:
            close = ", ".join(nearest(str(name), POLICY_OPERATIONS))
            raise UserError(f"{key}.RANDOM_POLICY.OPERATIONS: {name!r} is unknown; nearest: {close}")
    if (light.PROB or policy.COUNT) and cfg.INPUT.FORMAT not in COLOUR_FORMATS:
        raise UserError(
            f"INPUT.FORMAT: {cfg.INPUT.FORMAT!r} with {key}.PHOTOMETRIC or RANDOM_POLICY; these know "
            f"{', '.join(COLOUR_FORMATS)}; take one of them, or leave both off"
        )


def _check_combinations(cfg: CfgNode) -> None:
    own, key = cfg.RCNNKIT.AUGMENTATION, "RCNNKIT.AUGMENTATION"
    paste, mosaic = own.COPY_PASTE, own.MOSAIC
    if paste.MAX_OBJECTS < 1:
        raise UserError(f"{key}.COPY_PASTE.MAX_OBJECTS: {paste.MAX_OBJECTS}; give a number of objects, 1 or more")
    if not 0 <= paste.BLEND_SIGMA < float("inf"):
        raise UserError(f"{key}.COPY_PASTE.BLEND_SIGMA: {paste.BLEND_SIGMA}; give pixels, 0 (a hard edge) or more")
    if not _is_range(mosaic.CENTER, above=0) or mosaic.CENTER[1] >= 1:
        raise UserError(f"{key}.MOSAIC.CENTER: {mosaic.CENTER}; give two shares of the side, 0 < least ≤ most < 1")
    if not 0 <= own.MIN_LEFT_SHARE <= 1:
        raise UserError(f"{key}.MIN_LEFT_SHARE: {own.MIN_LEFT_SHARE}; give a share from 0 to 1")
    if own.MIN_LEFT_PIXELS < 1:
        raise UserError(f"{key}.MIN_LEFT_PIXELS: {own.MIN_LEFT_PIXELS}; give a number of pixels, 1 or more")
    if paste.PROB and not cfg.MODEL.MASK_ON:
        raise UserError(f"{key}.COPY_PASTE.PROB: {paste.PROB} needs masks, but MODEL.MASK_ON is False; set it to True")
    for section in ("COPY_PASTE", "MOSAIC"):
        where = f"{key}.{section}.PROB: {own[section].PROB}"
        if own[section].PROB and cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT != "bitmask":
            raise UserError(f"{where} cuts masks, but INPUT.MASK_FORMAT is {cfg.INPUT.MASK_FORMAT}; set it to bitmask")
        if own[section].PROB and cfg.MODEL.LOAD_PROPOSALS:
            raise UserError(f"{where} moves no precomputed proposals; set it to 0, or MODEL.LOAD_PROPOSALS to False")
