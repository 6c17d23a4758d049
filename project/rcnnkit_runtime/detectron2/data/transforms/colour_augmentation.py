"""The random policies of colour: contrast, brightness, saturation, lighting.

Draws come from numpy's global generator in a fixed order, one per stated choice. Shapes: image (H, W[, C]).
"""
# ruff: noqa: NPY002

from __future__ import annotations

from typing import Any

import numpy as np
from fvcore.transforms.transform import BlendTransform, Transform

from .augmentation import Augmentation


class _RandomIntensity(Augmentation):
    """Base of the policies that blend the image with another by a weight drawn from [min, max]; 1 changes nothing."""

    def __init__(self, intensity_min, intensity_max):
        super().__init__()
        self._init(locals())

    def _source(self, image: np.ndarray) -> Any:
        """What the image is mixed with."""
        raise NotImplementedError

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(src_image=self._source(image), src_weight=1 - weight, dst_weight=weight)


class RandomContrast(_RandomIntensity):
    """Mix with the image's mean."""

    def _source(self, image: np.ndarray) -> Any:
        return image.mean()


class RandomBrightness(_RandomIntensity):
    """Mix with black."""

    def _source(self, image: np.ndarray) -> Any:
        return 0


class RandomSaturation(_RandomIntensity):
    """Mix with the grey image (luma 0.299, 0.587, 0.114 over the channels as they come; meant for RGB)."""

    def _source(self, image: np.ndarray) -> Any:
        if image.shape[-1] != 3:
            raise AssertionError(f"RandomSaturation needs an image of three channels, got shape {image.shape}")
        return image.dot([0.299, 0.587, 0.114])[:, :, np.newaxis]


class RandomLighting(Augmentation):
    """AlexNet's colour jitter along ImageNet's principal components (Krizhevsky et al. 2012); RGB in 0–255.

    Args:
        scale: standard deviation of the three weights.
    """

    def __init__(self, scale):
        super().__init__()
        self._init(locals())
        # the published PCA of ImageNet's pixels, columns are the components
        self.eigen_vecs = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        if image.shape[-1] != 3:
            raise AssertionError(f"RandomLighting needs an image of three channels, got shape {image.shape}")
        weights = np.random.normal(scale=self.scale, size=3)
        return BlendTransform(src_image=self.eigen_vecs.dot(weights * self.eigen_vals), src_weight=1.0, dst_weight=1.0)
