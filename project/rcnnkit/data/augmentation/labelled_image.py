"""An augmented image with its labels, and what a window onto it leaves of them.

Shapes: H×W image, N objects, M ignored regions, K keypoints. Coordinates are absolute pixels; windows and boxes XYXY.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from detectron2.structures import BitMasks, Boxes, Instances, Keypoints


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image as the mapper gives it.

    Attributes:
        image: (H, W, C) uint8. Nobody writes into it.
        instances: with `gt_boxes`, `gt_classes`; where masks are used `gt_masks` (BitMasks) and `gt_has_mask` (N,);
            where keypoints are used `gt_keypoints` and `gt_has_keypoints` (N,).
        ignored: (M, 4), or None where nothing is ignored.
    """

    image: np.ndarray
    instances: Instances
    ignored: Boxes | None = None


@dataclass(frozen=True, slots=True)
class LeastLeft:
    """Which objects stay that an image's edge or another object hides in part.

    Attributes:
        share: least share of the object's pixels that is left, 0 to 1.
        pixels: least number of them, 1 or more.
    """

    share: float
    pixels: int

    def keeps(self, left: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """(N,) bool, from the pixels of each object (N,); one that has lost nothing stays, however small it is."""
        return (left >= before) | ((left >= self.share * before) & (left >= self.pixels))


@dataclass(frozen=True, slots=True)
class View:
    """Where an image comes to lie in another frame, and the part of it that is shown.

    Attributes:
        offset: (x, y) of the image's first pixel in the frame; may be negative.
        window: (x0, y0, x1, y1) of the part in the frame: inside the frame, and inside the image where it lies.
        size: (height, width) of the frame.
    """

    offset: tuple[int, int]
    window: tuple[int, int, int, int]
    size: tuple[int, int]

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """(h, w, C): the part of the image that the window shows."""
        (x, y), (x0, y0, x1, y1) = self.offset, self.window
        return image[y0 - y : y1 - y, x0 - x : x1 - x]

    def boxes(self, boxes: Boxes) -> tuple[Boxes, torch.Tensor, torch.Tensor]:
        """The boxes in the frame, cut to the window, and their areas (N,) after and before the cut."""
        x0, y0, x1, y1 = self.window
        moved = boxes.tensor + torch.tensor([*self.offset, *self.offset])
        least, most = moved.new_tensor([x0, y0, x0, y0]), moved.new_tensor([x1, y1, x1, y1])
        cut = Boxes(torch.minimum(torch.maximum(moved, least), most))
        return cut, cut.area(), Boxes(moved).area()

    def instances(self, given: Instances, least: LeastLeft) -> tuple[Instances, torch.Tensor, Boxes]:
        """The objects in the frame.

        The box of an object whose mask was cut is taken anew from what is left of it; keypoints outside of the window
        are no longer labelled.

        Returns:
            those that stay; (N,) bool of the given ones: which they are; the boxes of what is still seen of the others.
        """
        moved = Instances(self.size)
        moved.gt_boxes, left, before = self.boxes(given.gt_boxes)
        moved.gt_classes = given.gt_classes
        if given.has("gt_masks"):
            (x, y), (x0, y0, x1, y1) = self.offset, self.window
            masks = torch.zeros((len(given), *self.size), dtype=torch.bool)
            masks[:, y0:y1, x0:x1] = given.gt_masks.tensor[:, y0 - y : y1 - y, x0 - x : x1 - x]
            left, before = with_masks(moved, given, BitMasks(masks), left, before)
        if given.has("gt_keypoints"):
            add_keypoints(moved, self._keypoints(given.gt_keypoints.tensor))
        keep = least.keeps(left, before)
        return moved[keep], keep, moved.gt_boxes[~keep & (left > 0)]

    def _keypoints(self, points: torch.Tensor) -> torch.Tensor:
        """(N, K, 3) in the frame; all 0 where the window does not show them."""
        x0, y0, x1, y1 = self.window
        moved = points + points.new_tensor([*self.offset, 0])
        x, y, visible = moved.unbind(dim=2)
        shown = (visible > 0) & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        return moved * shown[:, :, None]


def regions_of(parts: Sequence[Boxes | None]) -> Boxes | None:
    """All ignored regions that are not empty; None where there are none."""
    regions = [part[part.nonempty()] for part in parts if part is not None]
    found = Boxes.cat(regions) if regions else None
    return found if found is not None and len(found) else None


def with_masks(
    instances: Instances, given: Instances, masks: BitMasks, left: torch.Tensor, before: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the instances what is left of the masks, and where one lost something the box around the rest.

    Args:
        instances: with `gt_boxes`; is changed.
        given: the same N objects before.
        masks: what is left, in the frame of `instances`.
        left, before: (N,) pixels of what each object without a mask shows now, and showed before.

    Returns:
        (N,), (N,): the same for all objects.
    """
    has_mask = given.gt_has_mask
    left = torch.where(has_mask, _pixels_of(masks), left)
    before = torch.where(has_mask, _pixels_of(given.gt_masks), before)
    if len(given):
        changed = (has_mask & (left < before))[:, None]
        boxes = torch.where(changed, masks.get_bounding_boxes().tensor, instances.gt_boxes.tensor)
        instances.gt_boxes = Boxes(boxes)
    instances.gt_masks, instances.gt_has_mask = masks, has_mask
    return left, before


def _pixels_of(masks: BitMasks) -> torch.Tensor:
    """(N,). A sum in torch would hold every pixel as int64: gigabytes for hundreds of large masks."""
    return torch.tensor([np.count_nonzero(mask) for mask in masks.tensor.numpy()], dtype=torch.int64)


def add_keypoints(instances: Instances, points: torch.Tensor) -> None:
    """Set both fields of keypoints; points: (N, K, 3)."""
    instances.gt_keypoints = Keypoints(points)
    instances.gt_has_keypoints = (points[:, :, 2] > 0).any(dim=1)
