"""Augmentations of training images, chosen by RCNNKIT.AUGMENTATION; see rcnnkit/config_augmentation.py."""

from rcnnkit.data.augmentation.affine import AffineTransform
from rcnnkit.data.augmentation.copy_paste import CopyPaste
from rcnnkit.data.augmentation.labelled_image import LabelledImage
from rcnnkit.data.augmentation.mosaic import Mosaic
from rcnnkit.data.augmentation.object_crop import ObjectCrop
from rcnnkit.data.augmentation.photometric import PhotometricJitter
from rcnnkit.data.augmentation.policies import Combination, Policies, build_policies
from rcnnkit.data.augmentation.random_policy import RandomPolicy
from rcnnkit.data.augmentation.rotation import RotateInFrame
from rcnnkit.data.augmentation.scale_jitter import large_scale_jitter

__all__ = [
    "AffineTransform",
    "Combination",
    "CopyPaste",
    "LabelledImage",
    "Mosaic",
    "ObjectCrop",
    "PhotometricJitter",
    "Policies",
    "RandomPolicy",
    "RotateInFrame",
    "large_scale_jitter",
    "build_policies",
]
