"""The random policies: flips, resizes, crops, rotation, colour.

Draws come from numpy's global generator in a fixed order, one per stated choice.
Shapes: image (H, W[, C]), boxes (N, 4) absolute XYXY.
"""
# ruff: noqa: NPY002

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from fvcore.transforms.transform import (
    CropTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
    VFlipTransform,
)

from detectron2.structures import Boxes, pairwise_iou

from .augmentation import Augmentation, _transform_to_aug
from .colour_augmentation import RandomBrightness, RandomContrast, RandomLighting, RandomSaturation
from .transform import BILINEAR, ExtentTransform, ResizeTransform, RotationTransform

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]


class RandomApply(Augmentation):
    """Apply a policy or a transform with probability `prob`, else nothing."""

    def __init__(self, tfm_or_aug, prob=0.5):
        super().__init__()
        if not 0.0 <= prob <= 1.0:
            raise AssertionError(f"Probability must be between 0.0 and 1.0 (given: {prob})")
        self.aug = _transform_to_aug(tfm_or_aug)
        self.prob = prob

    def get_transform(self, *args: Any) -> Transform:
        if self._rand_range() < self.prob:
            return self.aug.get_transform(*args)
        return NoOpTransform()

    def __call__(self, aug_input: Any) -> Transform:
        if self._rand_range() < self.prob:
            return self.aug(aug_input)
        return NoOpTransform()


class RandomFlip(Augmentation):
    """Mirror left–right (or, with `vertical`, top–bottom) with probability `prob`."""

    def __init__(self, prob=0.5, *, horizontal=True, vertical=False):
        super().__init__()
        if horizontal and vertical:
            raise ValueError("RandomFlip does one direction: use two of them for horizontal and vertical")
        if not horizontal and not vertical:
            raise ValueError("RandomFlip: at least one of horizontal and vertical has to be True")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(w) if self.horizontal else VFlipTransform(h)


class Resize(Augmentation):
    """Resize to `shape`, (h, w) or one int for both."""

    def __init__(self, shape, interp=BILINEAR):
        if isinstance(shape, int):
            shape = (shape, shape)
        shape = tuple(shape)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        return ResizeTransform(image.shape[0], image.shape[1], self.shape[0], self.shape[1], self.interp)


class ResizeShortestEdge(Augmentation):
    """Resize so that the shorter edge has a drawn length, the longer one at most `max_size`; aspect ratio kept.

    Args:
        short_edge_length: an int; (min, max) for sample_style "range"; a list of lengths for "choice". 0: leave as is.
        max_size: longest allowed edge.
        sample_style: "range" or "choice".
        interp: PIL resampling filter.
    """

    def __init__(self, short_edge_length, max_size=sys.maxsize, sample_style="range", interp=BILINEAR):
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise AssertionError(f"sample_style must be 'range' or 'choice', got {sample_style!r}")
        self.is_range = sample_style == "range"
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        if self.is_range and len(short_edge_length) != 2:
            raise AssertionError(
                f"short_edge_length must be two values using 'range' sample style. Got {short_edge_length}!"
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        if self.is_range:
            size = np.random.randint(self.short_edge_length[0], self.short_edge_length[1] + 1)
        else:
            size = np.random.choice(self.short_edge_length)
        if size == 0:
            return NoOpTransform()
        new_h, new_w = self.get_output_shape(h, w, size, self.max_size)
        return ResizeTransform(h, w, new_h, new_w, self.interp)

    @staticmethod
    def get_output_shape(oldh: int, oldw: int, short_edge_length: int, max_size: int) -> tuple[int, int]:
        """(h, w) of an oldh × oldw image resized by this rule, rounded half up."""
        scale = short_edge_length * 1.0 / min(oldh, oldw)
        h, w = scale * oldh, scale * oldw
        longest = max(h, w)
        if longest > max_size:
            h, w = h * (max_size * 1.0 / longest), w * (max_size * 1.0 / longest)
        return int(h + 0.5), int(w + 0.5)


class ResizeScale(Augmentation):
    """Fit the image into a target size times a scale drawn from [min_scale, max_scale]; aspect ratio kept."""

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: int = BILINEAR,
    ):
        super().__init__()
        self._init(locals())

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        h, w = image.shape[:2]
        factor = min(scale * self.target_height / h, scale * self.target_width / w)
        return ResizeTransform(h, w, round(h * factor), round(w * factor), self.interp)

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))


class RandomRotation(Augmentation):
    """Rotate counter-clockwise by a drawn angle, in degrees.

    Args:
        angle: (min, max) for sample_style "range", a list of angles for "choice", or one angle.
        expand: enlarge the canvas so that nothing is cut off.
        center: centre of rotation relative to the image, (x, y) in 0–1: a pair of corners to draw between ("range"), a
            list to choose from ("choice"), or one centre. None: the image's centre.
        sample_style: "range" or "choice".
        interp: OpenCV interpolation.
    """

    def __init__(self, angle, expand=True, center=None, sample_style="range", interp=None):
        super().__init__()
        if sample_style not in ("range", "choice"):
            raise AssertionError(f"sample_style must be 'range' or 'choice', got {sample_style!r}")
        self.is_range = sample_style == "range"
        if isinstance(angle, (float, int)):
            angle = (angle, angle)
        if center is not None and isinstance(center[0], (float, int)):
            center = (center, center)
        self._init(locals())

    def _draw_center(self) -> tuple[float, float] | None:
        if self.center is None:
            return None
        if self.is_range:
            (x0, y0), (x1, y1) = self.center
            return np.random.uniform(x0, x1), np.random.uniform(y0, y1)
        return tuple(self.center[np.random.randint(len(self.center))])

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        angle = np.random.uniform(self.angle[0], self.angle[1]) if self.is_range else np.random.choice(self.angle)
        relative = self._draw_center()
        if angle % 360 == 0:
            return NoOpTransform()
        center = None if relative is None else (w * relative[0], h * relative[1])
        return RotationTransform(h, w, angle, expand=self.expand, center=center, interp=self.interp)


class FixedSizeCrop(Augmentation):
    """Cut a window of `crop_size` (h, w) at a drawn place, no larger than the image; with `pad`, fill to the size.

    One draw places the window along both axes. Padding is below and to the right.
    """

    def __init__(self, crop_size: tuple[int], pad: bool = True, pad_value: float = 128.0, seg_pad_value: int = 255):
        super().__init__()
        self._init(locals())

    def _get_crop(self, image: np.ndarray) -> Transform:
        in_h, in_w = image.shape[:2]
        out_h, out_w = self.crop_size
        room = np.maximum(np.array([in_h - out_h, in_w - out_w]), 0)
        y0, x0 = np.round(room * np.random.uniform(0.0, 1.0)).astype(int)
        return CropTransform(x0, y0, out_w, out_h, in_w, in_h)

    def _get_pad(self, image: np.ndarray) -> Transform:
        in_h, in_w = image.shape[:2]
        out_h, out_w = self.crop_size
        pad_h, pad_w = max(out_h - in_h, 0), max(out_w - in_w, 0)
        kept_h, kept_w = min(in_h, out_h), min(in_w, out_w)
        return PadTransform(0, 0, pad_w, pad_h, kept_w, kept_h, self.pad_value, self.seg_pad_value)

    def get_transform(self, image: np.ndarray) -> TransformList:
        steps = [self._get_crop(image)]
        if self.pad:
            steps.append(self._get_pad(image))
        return TransformList(steps)


class RandomCrop(Augmentation):
    """Cut a window out of the image at a drawn place.

    Args:
        crop_type: "relative" (crop_size × image), "relative_range" (a drawn factor of [crop_size, 1) per axis),
            "absolute" (crop_size pixels, at most the image), "absolute_range" (each edge drawn from
            [crop_size[0], crop_size[1]], at most the image).
        crop_size: two numbers, (h, w) except for "absolute_range".
    """

    def __init__(self, crop_type: str, crop_size):
        super().__init__()
        if crop_type not in ("relative_range", "relative", "absolute", "absolute_range"):
            raise AssertionError(
                f"crop_type must be relative_range, relative, absolute or absolute_range, got {crop_type!r}"
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((h, w))
        if h < crop_h or w < crop_w:
            raise AssertionError(f"RandomCrop: window {crop_h}×{crop_w} does not fit into the image of {h}×{w}")
        y0 = np.random.randint(h - crop_h + 1)
        x0 = np.random.randint(w - crop_w + 1)
        return CropTransform(x0, y0, crop_w, crop_h)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the window for an image of `image_size` (h, w)."""
        h, w = image_size
        if self.crop_type == "absolute":
            return min(self.crop_size[0], h), min(self.crop_size[1], w)
        if self.crop_type == "absolute_range":
            low, high = self.crop_size
            if low > high:
                raise AssertionError(f"RandomCrop: absolute_range needs (min, max), got {tuple(self.crop_size)}")
            crop_h = np.random.randint(min(h, low), min(h, high) + 1)
            crop_w = np.random.randint(min(w, low), min(w, high) + 1)
            return crop_h, crop_w
        factor_h, factor_w = self.crop_size
        if self.crop_type == "relative_range":
            # single precision, as the factors' array in the config always was
            smallest = np.asarray(self.crop_size, dtype=np.float32)
            factor_h, factor_w = smallest + np.random.rand(2) * (1 - smallest)
        return int(h * factor_h + 0.5), int(w * factor_w + 0.5)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """RandomCrop that tries up to ten windows for one in which no label of `sem_seg` covers too much.

    Args:
        crop_type, crop_size: as in RandomCrop.
        single_category_max_area: largest allowed share of one label, of the area that has labels; 1 allows all.
        ignored_category: a label that does not count.
    """

    _TRIALS = 10

    def __init__(
        self,
        crop_type: str,
        crop_size,
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ):
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def _is_mixed(self, labels: np.ndarray) -> bool:
        values, counts = np.unique(labels, return_counts=True)
        if self.ignored_category is not None:
            counts = counts[values != self.ignored_category]
        return len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        h, w = sem_seg.shape
        for _ in range(self._TRIALS):
            crop_h, crop_w = self.crop_aug.get_crop_size((h, w))
            y0 = np.random.randint(h - crop_h + 1)
            x0 = np.random.randint(w - crop_w + 1)
            if self._is_mixed(sem_seg[y0 : y0 + crop_h, x0 : x0 + crop_w]):
                break
        return CropTransform(x0, y0, crop_w, crop_h)


class RandomExtent(Augmentation):
    """Cut a rectangle of drawn size and place, which may reach over the border; the outside is black.

    Args:
        scale_range: (min, max) of the rectangle's size relative to the image.
        shift_range: (x, y), the largest distance of its centre from the image's, relative to the image; the draw spans
            half of it either way.
    """

    def __init__(self, scale_range, shift_range):
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        scale = np.random.uniform(self.scale_range[0], self.scale_range[1])
        shift_x = self.shift_range[0] * w * (np.random.rand() - 0.5)
        shift_y = self.shift_range[1] * h * (np.random.rand() - 0.5)
        half_w, half_h = 0.5 * w * scale, 0.5 * h * scale
        center_x, center_y = 0.5 * w + shift_x, 0.5 * h + shift_y
        rect = (center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h)
        return ExtentTransform(src_rect=rect, output_size=(int(rect[3] - rect[1]), int(rect[2] - rect[0])))


class RandomResize(Augmentation):
    """Resize to one of `shape_list`, a list of (h, w)."""

    def __init__(self, shape_list, interp=BILINEAR):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        new_h, new_w = self.shape_list[np.random.randint(low=0, high=len(self.shape_list))]
        return ResizeTransform(image.shape[0], image.shape[1], new_h, new_w, self.interp)


class MinIoURandomCrop(Augmentation):
    """SSD's crop (Liu et al. 2016): a window whose IoU with every box in reach is at least a drawn minimum.

    Args:
        min_ious: minima to draw from, besides "the whole image" and "no minimum".
        min_crop_size: smallest edge of the window relative to the image.
        mode_trials: how often a minimum is drawn.
        crop_trials: how many windows are tried for each.
    """

    def __init__(self, min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3, mode_trials=1000, crop_trials=50):
        self.min_ious = min_ious
        self.sample_mode = (1, *min_ious, 0)
        self.min_crop_size = min_crop_size
        self.mode_trials = mode_trials
        self.crop_trials = crop_trials

    def _draw_window(self, h: int, w: int) -> tuple[int, int, int, int] | None:
        """Integer (x0, y0, w, h) of a window whose aspect ratio lies in 1/2 … 2, or None."""
        new_w = np.random.uniform(self.min_crop_size * w, w)
        new_h = np.random.uniform(self.min_crop_size * h, h)
        if not 0.5 <= new_h / new_w <= 2:
            return None
        left = np.random.uniform(w - new_w)
        top = np.random.uniform(h - new_h)
        if int(left + new_w) == int(left) or int(top + new_h) == int(top):
            return None
        return int(left), int(top), int(new_w), int(new_h)

    @staticmethod
    def _is_good(window: tuple[int, int, int, int], boxes: np.ndarray, min_iou: float) -> bool:
        if len(boxes) == 0:
            return True
        x0, y0, w, h = window
        rect = torch.tensor([[x0, y0, x0 + w, y0 + h]], dtype=torch.float64)
        ious = pairwise_iou(Boxes(rect), Boxes(torch.as_tensor(boxes).reshape(-1, 4)))
        if float(ious.min()) < min_iou:
            return False
        # some object has to keep its centre
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        return bool(((centers > (x0, y0)) & (centers < (x0 + w, y0 + h))).all(axis=1).any())

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> Transform:
        """`boxes`: (N, 4) absolute XYXY."""
        if boxes is None:
            raise ValueError("MinIoURandomCrop needs AugInput(boxes=...)")
        h, w = image.shape[:2]
        for _ in range(self.mode_trials):
            min_iou = np.random.choice(self.sample_mode)
            if min_iou == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                window = self._draw_window(h, w)
                if window is not None and self._is_good(window, boxes, min_iou):
                    return CropTransform(*window)
        return NoOpTransform()
