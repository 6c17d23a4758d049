"""How many objects of a data set have a box only, a mask, keypoints; and how many images have none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class LabelCounts:
    """Counts of images and objects; crowd regions and objects to be ignored are not among the objects."""

    images: int = 0
    empty_images: int = 0
    objects: int = 0
    masks: int = 0
    keypoints: int = 0  # objects with at least one labelled point
    box_only: int = 0
    crowd: int = 0
    ignored: int = 0

    def describe(self) -> str:
        """One line of text."""
        parts = [
            f"{self.images} images ({self.empty_images} without objects)",
            f"{self.objects} objects ({self.box_only} with a box only, {self.masks} with a mask, "
            f"{self.keypoints} with keypoints)",
        ]
        parts += [f"{self.crowd} crowd regions"] if self.crowd else []
        parts += [f"{self.ignored} marked to be ignored"] if self.ignored else []
        return ", ".join(parts)


def is_object(annotation: dict) -> bool:
    """Whether an annotation is an object to learn: no crowd region, and not marked to be ignored."""
    return not annotation.get("iscrowd", 0) and not annotation.get("ignore", 0)


def has_mask(annotation: dict) -> bool:
    """Whether run lengths or at least one polygon of three points are labelled."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return True
    return segmentation is not None and any(len(polygon) >= 6 for polygon in segmentation)


def has_keypoints(annotation: dict) -> bool:
    """Whether at least one point is labelled."""
    keypoints = annotation.get("keypoints")
    return keypoints is not None and any(visibility > 0 for visibility in keypoints[2::3])


def count_labels(records: Iterable[dict]) -> LabelCounts:
    """Count what the records of a data set hold."""
    counts = LabelCounts()
    for record in records:
        counts.images += 1
        before = counts.objects
        for annotation in record.get("annotations", ()):
            if not is_object(annotation):
                counts.crowd += bool(annotation.get("iscrowd", 0))
                counts.ignored += not annotation.get("iscrowd", 0)
                continue
            counts.objects += 1
            with_mask, with_keypoints = has_mask(annotation), has_keypoints(annotation)
            counts.masks += with_mask
            counts.keypoints += with_keypoints
            counts.box_only += not (with_mask or with_keypoints)
        counts.empty_images += counts.objects == before
    return counts


def count_classes(records: Iterable[dict], num_classes: int) -> list[int]:
    """Number of objects of each class in the records of a data set.

    Args:
        records: whose annotations have `category_id` from 0 to `num_classes` - 1.
    """
    counts = [0] * num_classes
    for record in records:
        for annotation in record.get("annotations", ()):
            if is_object(annotation):
                counts[annotation["category_id"]] += 1
    return counts
