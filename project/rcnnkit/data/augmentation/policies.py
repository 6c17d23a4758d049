"""Which augmentations a config asks for, in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from rcnnkit.data.augmentation.copy_paste import CopyPaste
from rcnnkit.data.augmentation.labelled_image import LabelledImage, LeastLeft
from rcnnkit.data.augmentation.mosaic import Mosaic
from rcnnkit.data.augmentation.object_crop import ObjectCrop
from rcnnkit.data.augmentation.photometric import PhotometricJitter
from rcnnkit.data.augmentation.random_policy import GEOMETRY, RandomPolicy
from rcnnkit.data.augmentation.rotation import RotateInFrame
from rcnnkit.data.augmentation.scale_jitter import large_scale_jitter

# (augmented image, a function that draws another one, random numbers) → (image, number of objects that it lost)
Combination = Callable[[LabelledImage, Callable[[], LabelledImage], np.random.Generator], tuple[LabelledImage, int]]


@dataclass(frozen=True, slots=True)
class Policies:
    """Augmentations in order; whether one of them reads the objects' boxes; whether one changes the shape of what is
    seen of an object, so that boxes have to be taken from the masks; and what puts several augmented images together.
    """

    augmentations: list[T.Augmentation]
    read_boxes: bool
    change_outlines: bool
    combinations: list[Combination]


def build_policies(cfg: CfgNode, given: Sequence[T.Augmentation]) -> Policies:
    """The policies of RCNNKIT.AUGMENTATION around those of INPUT.*.

    Crop, rotation, random policy and colours come first, on the image as it was read; large-scale jitter takes the
    place of the resize to a shortest edge.

    Args:
        given: Detectron2's, made from INPUT.*.
    """
    own, colours = cfg.RCNNKIT.AUGMENTATION, cfg.INPUT.FORMAT
    first: list[T.Augmentation] = []
    if own.OBJECT_CROP.PROB > 0:
        first.append(ObjectCrop(own.OBJECT_CROP.PROB, own.OBJECT_CROP.SCALE))
    if own.ROTATION.PROB > 0:
        first.append(RotateInFrame(own.ROTATION.PROB, own.ROTATION.DEGREES, own.FILL))
    policy = own.RANDOM_POLICY
    if policy.COUNT > 0:
        first.append(
            RandomPolicy(
                policy.OPERATIONS,
                count=policy.COUNT,
                magnitude=policy.MAGNITUDE,
                image_format=colours,
                fill=own.FILL,
            )
        )
    light = own.PHOTOMETRIC
    if light.PROB > 0:
        first.append(
            PhotometricJitter(
                light.PROB,
                brightness=light.BRIGHTNESS,
                contrast=light.CONTRAST,
                saturation=light.SATURATION,
                hue=light.HUE,
                image_format=colours,
            )
        )
    resized: list[T.Augmentation] = []
    for augmentation in given:
        jittered = own.SCALE_JITTER.ENABLED and isinstance(augmentation, T.ResizeShortestEdge)
        jitter = large_scale_jitter(own.SCALE_JITTER.SCALE, own.SCALE_JITTER.SIZE) if jittered else [augmentation]
        resized.extend(jitter)
    moves = policy.COUNT > 0 and any(name in GEOMETRY for name in policy.OPERATIONS)
    return Policies(
        [*first, *resized],
        read_boxes=own.OBJECT_CROP.PROB > 0,
        change_outlines=own.ROTATION.PROB > 0 or own.SCALE_JITTER.ENABLED or moves,
        combinations=_build_combinations(cfg),
    )


def _build_combinations(cfg: CfgNode) -> list[Combination]:
    """Mosaic first: what is pasted lies upon the whole."""
    own = cfg.RCNNKIT.AUGMENTATION
    least = LeastLeft(own.MIN_LEFT_SHARE, own.MIN_LEFT_PIXELS)
    chosen: list[Combination] = []
    if own.MOSAIC.PROB > 0:
        chosen.append(Mosaic(own.MOSAIC.PROB, center=own.MOSAIC.CENTER, fill=own.FILL, least=least))
    paste = own.COPY_PASTE
    if paste.PROB > 0:
        chosen.append(CopyPaste(paste.PROB, max_objects=paste.MAX_OBJECTS, blend_sigma=paste.BLEND_SIGMA, least=least))
    return chosen
