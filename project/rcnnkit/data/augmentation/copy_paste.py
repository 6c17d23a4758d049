"""Simple copy-paste: objects of another training image, cut out by their masks, onto this one.

Ghiasi et al., "Simple copy-paste is a strong data augmentation method for instance segmentation", CVPR 2021,
https://arxiv.org/abs/2012.07177

Shapes: H×W image, N objects, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch

from detectron2.structures import BitMasks, Boxes, Instances
from rcnnkit.data.augmentation.labelled_image import (
    LabelledImage,
    LeastLeft,
    View,
    add_keypoints,
    regions_of,
    with_masks,
)

# Pixels: a keypoint of a pasted object that lies no farther than two from the mask is shown, as tips on an outline are.
OUTLINE = 5


class CopyPaste:
    """With some probability, paste a random subset of another image's objects.

    Both images were augmented by themselves. An image of another size is laid at a random place onto this one; where it
    is the larger, a random part of it is used. Objects without a mask are not pasted, nor is an ignored region brought.

    Args:
        prob: 0 to 1.
        max_objects: at most so many are pasted; the number is drawn uniformly from 1 to it, or to those there are.
        blend_sigma: standard deviation in pixels of the Gaussian that softens the pasted edge; 0: a hard edge.
        least: which of the objects that are hidden in part stay. Of one without a mask all pixels of its box count.
    """

    def __init__(self, prob: float, *, max_objects: int, blend_sigma: float, least: LeastLeft):
        self.prob = prob
        self.max_objects = max_objects
        self.blend_sigma = blend_sigma
        self.least = least

    def __call__(
        self, target: LabelledImage, another: Callable[[], LabelledImage], rng: np.random.Generator
    ) -> tuple[LabelledImage, int]:
        """The image with what was pasted, and the number of its objects that are hidden now; `another` draws one."""
        if rng.random() >= self.prob:
            return target, 0
        source = another()
        view = random_view(source.image.shape[:2], target.image.shape[:2], rng)
        seen, _, _ = view.instances(source.instances, self.least)
        usable = np.flatnonzero(seen.gt_has_mask.numpy())
        if not len(usable):
            return target, 0
        count = int(rng.integers(1, min(len(usable), self.max_objects) + 1))
        chosen = torch.from_numpy(np.sort(rng.permutation(usable)[:count]))
        return pasted(target, source.image, seen[chosen], view, blend_sigma=self.blend_sigma, least=self.least)


def random_view(source: tuple[int, int], target: tuple[int, int], rng: np.random.Generator) -> View:
    """A view of an image of size `source` (height, width) in a frame of size `target`: along each axis the smaller one
    lies within the larger, at a place drawn uniformly."""
    y, x = (int(rng.integers(min(room, 0), max(room, 0) + 1)) for room in np.subtract(target, source))
    window = (max(x, 0), max(y, 0), min(x + source[1], target[1]), min(y + source[0], target[0]))
    return View((x, y), window, target)


def pasted(
    target: LabelledImage, source: np.ndarray, objects: Instances, view: View, *, blend_sigma: float, least: LeastLeft
) -> tuple[LabelledImage, int]:
    """The target with objects of the source upon it.

    Args:
        source: (h, w, C) uint8, where the objects' pixels are.
        objects: of the source, in the target's frame, all with masks.
        view: of the source in the target.
        blend_sigma: see `CopyPaste`.
        least: which of the target's objects stay.

    Returns:
        the image with the target's objects that stay, then the pasted ones; the number of those that do not stay, of
        which what is still seen is ignored.
    """
    covered = objects.gt_masks.tensor.any(dim=0)
    x0, y0, x1, y1 = view.window
    opacity = covered[y0:y1, x0:x1].numpy().astype(np.float32)
    if blend_sigma > 0:
        opacity = cv2.GaussianBlur(opacity, (0, 0), blend_sigma)
    opacity = opacity[:, :, None]
    image = target.image.copy()
    mixed = opacity * view.pixels(source) + (1 - opacity) * image[y0:y1, x0:x1]
    image[y0:y1, x0:x1] = np.rint(mixed).astype(image.dtype)
    if objects.has("gt_keypoints"):
        near = cv2.dilate(covered.numpy().astype(np.uint8), np.ones((OUTLINE, OUTLINE), np.uint8)) > 0
        add_keypoints(objects, _hidden(objects.gt_keypoints.tensor, torch.from_numpy(~near)))
    left, remains = occluded(target.instances, covered, least)
    together = Instances.cat([left, objects]) if len(left) else objects
    ignored = regions_of([target.ignored, remains])
    return LabelledImage(image, together, ignored), len(target.instances) - len(left)


def occluded(given: Instances, covered: torch.Tensor, least: LeastLeft) -> tuple[Instances, Boxes]:
    """What is left of objects when something lies upon them.

    Masks lose the covered pixels, and the box is then taken from the rest; a box without a mask stays as it is. A
    keypoint that was seen (2) and is covered becomes hidden (1).

    Args:
        given: with masks.
        covered: (H, W) bool.
        least: which objects stay.

    Returns:
        those that stay, and the boxes of what is still seen of the others.
    """
    result = Instances(given.image_size)
    result.gt_boxes, result.gt_classes = given.gt_boxes, given.gt_classes
    left, before = _uncovered(given, covered)
    left, before = with_masks(result, given, BitMasks(given.gt_masks.tensor & ~covered), left, before)
    if given.has("gt_keypoints"):
        add_keypoints(result, _hidden(given.gt_keypoints.tensor, covered))
    keep = least.keeps(left, before)
    return result[keep], result.gt_boxes[~keep & (left > 0)]


def _uncovered(given: Instances, covered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (N,) of each box that are not covered, and all of them."""
    left, before = torch.zeros(len(given)), torch.zeros(len(given))
    for index, (x0, y0, x1, y1) in enumerate(given.gt_boxes.tensor.tolist()):
        inside = ~covered[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        left[index], before[index] = inside.sum(), inside.numel()
    return left, before


def _hidden(points: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """(N, K, 3) → the same, where what is covered is not seen."""
    height, width = covered.shape
    x, y = points[:, :, 0].long().clamp(0, width - 1), points[:, :, 1].long().clamp(0, height - 1)
    result = points.clone()
    result[:, :, 2][(points[:, :, 2] == 2) & covered[y, x]] = 1
    return result
