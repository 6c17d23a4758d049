"""What keypoint heads learn from: the labelled points of the sampled boxes, and which points each class has.

Shape letters: B boxes of all images, K keypoints of all classes, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from detectron2.structures import Instances
from rcnnkit.modeling.head_boxes import per_image
from rcnnkit.modeling.precision import at_least_float32

HIDDEN, VISIBLE = 1, 2  # COCO's v; 0: not labelled


@dataclass(frozen=True)
class KeypointLabels:
    """Labels of the boxes of a batch.

    Attributes:
        points: (B, K, 2) float, x and y in fractions of the box, 0 at its left and upper edge and 1 at the others.
        located: (B, K) bool: the place is learnt. The point is labelled, its class has it, and it is in the box.
        visible: (B, K) bool: the point is labelled as seen (v = 2).
        judged: (B, K) bool: the visibility is learnt. The class has the point, the object has any labelled, and the
            point is not outside the box, where the features do not show it.
    """

    points: torch.Tensor
    located: torch.Tensor
    visible: torch.Tensor
    judged: torch.Tensor


def class_points(class_keypoints: Sequence[Sequence[int]], num_keypoints: int) -> torch.Tensor | None:
    """(C, K) bool: which points each class has; None where `class_keypoints` is empty: every class has all.

    Args:
        class_keypoints: per class the indices of its points.
        num_keypoints: K.

    Raises:
        ValueError: an index outside 0 … K − 1.
    """
    if not class_keypoints:
        return None
    has = torch.zeros(len(class_keypoints), num_keypoints, dtype=torch.bool)
    for number, indices in enumerate(class_keypoints):
        for index in indices:
            if not 0 <= index < num_keypoints:
                raise ValueError(
                    f"MODEL.ROI_KEYPOINT_HEAD.CLASS_KEYPOINTS: class {number} has the point {index}, but there are "
                    f"{num_keypoints} (0 to {num_keypoints - 1}); correct it or NUM_KEYPOINTS"
                )
            has[number, index] = True
    return has


def points_of_classes(classes: torch.Tensor, points: torch.Tensor | None, num_keypoints: int) -> torch.Tensor:
    """(B, K) bool: the points that the objects have, by their classes.

    Args:
        classes: (B,) int64, each below C.
        points: as `class_points` returns it.
        num_keypoints: K.
    """
    if points is None:
        return torch.ones(classes.shape[0], num_keypoints, dtype=torch.bool, device=classes.device)
    return points.to(classes.device)[classes]


def keypoint_labels(
    instances: Sequence[Instances], points: torch.Tensor | None, like: torch.Tensor, num_keypoints: int
) -> KeypointLabels:
    """The labels of all boxes.

    Args:
        instances: per image, `proposal_boxes`, `gt_classes`, `gt_keypoints` (absolute pixels, v). An image without
            boxes may lack the fields.
        points: as `class_points` returns it.
        like: a tensor on the device and of the floating type of the result.
        num_keypoints: K.
    """
    occupied = [own for own in instances if len(own)]
    if not occupied:
        nothing = torch.zeros(0, num_keypoints, dtype=torch.bool, device=like.device)
        return KeypointLabels(like.new_zeros(0, num_keypoints, 2), nothing, nothing, nothing)
    keypoints = torch.cat([own.gt_keypoints.tensor for own in occupied]).to(like)
    boxes = torch.cat([own.proposal_boxes.tensor for own in occupied]).to(like)
    classes = torch.cat([own.gt_classes for own in occupied]).to(like.device)
    owned = points_of_classes(classes, points, num_keypoints)

    size = boxes[:, 2:] - boxes[:, :2]
    relative = (keypoints[..., :2] - boxes[:, None, :2]) / size.clamp(min=1e-6)[:, None]
    inside = ((relative >= 0) & (relative <= 1)).all(dim=2) & (size > 0).all(dim=1)[:, None]
    labelled = (keypoints[..., 2] >= HIDDEN) & owned
    judged = owned & labelled.any(dim=1, keepdim=True) & (inside | ~labelled)
    return KeypointLabels(relative, labelled & inside, labelled & (keypoints[..., 2] >= VISIBLE), judged)


def visibility_loss(visibility_logits: torch.Tensor, labels: KeypointLabels) -> torch.Tensor:
    """Binary cross-entropy of "the point is seen", the mean over the judged points.

    Args:
        visibility_logits: (B, K).

    Returns:
        scalar; 0 with a gradient path where nothing is judged.
    """
    if not bool(labels.judged.any()):
        return visibility_logits.sum() * 0
    logits = at_least_float32(visibility_logits)[labels.judged]
    return F.binary_cross_entropy_with_logits(logits, labels.visible[labels.judged].to(logits))


def in_boxes(points: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """(B, K, 2) absolute pixels from fractions of the boxes.

    Args:
        points: (B, K, 2).
        boxes: (B, 4) XYXY, absolute pixels.
    """
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return low + points * (high - low)


def set_keypoints(
    instances: Sequence[Instances],
    points: torch.Tensor,
    scores: torch.Tensor,
    owners: torch.Tensor | None,
) -> None:
    """Set `pred_keypoints`: (boxes, K, 3) of x, y in absolute pixels and score.

    A point that the predicted class does not have gets score 0, in the middle of the box.

    Args:
        instances: per image, `pred_boxes`, `pred_classes`.
        points: (B, K, 2) in fractions of the boxes.
        scores: (B, K), 0 … 1.
        owners: which points each class has, as `class_points` returns it.
    """
    for own, places, chances in zip(instances, per_image(points, instances), per_image(scores, instances), strict=True):
        owned = points_of_classes(own.pred_classes, owners, points.shape[1])
        located = in_boxes(torch.where(owned[..., None], places, 0.5), own.pred_boxes.tensor.to(points))
        own.pred_keypoints = torch.cat([located, (chances * owned)[..., None]], dim=2)
