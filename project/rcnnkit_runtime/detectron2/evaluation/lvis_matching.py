"""LVIS' metrics (Gupta et al. 2019, section 4; https://www.lvisdataset.org/challenge): AP on a federated data set.

An image is annotated for some of the categories only. Its positive categories have objects in it, its negative ones are
known to be absent; detections of other categories do not count. In images where a category is annotated in part (`not
exhaustive`), its detections that hit nothing do not count either.

Shapes:
    T: IoU thresholds       A: area ranges       R: recall points       K: categories
    D, G: detections and objects of one category in one image
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
# square pixels, both bounds included
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}


def best_per_image(results: Iterable[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The `limit` results of highest score of each image, over all categories; -1 keeps all."""
    per_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        per_image[result["image_id"]].append(result)
    kept = []
    for found in per_image.values():
        if 0 <= limit < len(found):
            found = sorted(found, key=lambda result: -result["score"])[:limit]
        kept.extend(found)
    return kept


def match(iou: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray = IOU_THRESHOLDS) -> np.ndarray:
    """Give each detection, best score first, the free object that it overlaps most.

    Objects that count come before those to be ignored; of equal overlaps the later object is taken.

    Args:
        iou: [D, G], rows by falling score.
        ignored: [A, G], objects that do not count in an area range.
        thresholds: [T], the least IoU of a match.

    Returns:
        [T, A, D] int64, the index of the object or -1.
    """
    num_areas, num_objects = ignored.shape
    matched = np.full((len(thresholds), num_areas, len(iou)), -1, dtype=np.int64)
    if num_objects == 0:
        return matched
    free = np.ones((len(thresholds), num_areas, num_objects), dtype=bool)
    least = np.minimum(thresholds, 1 - 1e-10)[:, None, None]
    for detection in np.flatnonzero(iou.max(axis=1) >= least.min()):
        overlap = iou[detection]
        fits = free & (overlap >= least)
        counted = fits & ~ignored
        candidates = np.where(counted.any(axis=2, keepdims=True), counted, fits)
        # argmax finds the first of equals, hence the reversal
        chosen = num_objects - 1 - np.where(candidates, overlap, -1.0)[..., ::-1].argmax(axis=2)
        chosen = np.where(candidates.any(axis=2), chosen, -1)
        matched[:, :, detection] = chosen
        threshold, area = np.nonzero(chosen >= 0)
        free[threshold, area, chosen[threshold, area]] = False
    return matched


def precision_at_recall(hits: np.ndarray, misses: np.ndarray, num_objects: int) -> tuple[np.ndarray, float]:
    """The best precision at each recall point or above, and the final recall.

    Args:
        hits, misses: [D] bool, detections by falling score; one that is neither does not count.
        num_objects: at least 1.

    Returns:
        [R] precision (0 beyond the final recall), recall.
    """
    hits, misses = hits.cumsum().astype(np.float64), misses.cumsum().astype(np.float64)
    recall = hits / num_objects
    precision = hits / (hits + misses + np.spacing(1))
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return best[np.searchsorted(recall, RECALL_POINTS, side="left")], float(recall[-1]) if len(recall) else 0.0


class LVISEvaluation:
    """Precision of detections at all thresholds, recalls, categories and areas.

    Attributes:
        category_ids: K ids, ascending.
        precision: [T, R, K, A], -1 where a category has no object.
        recall: [T, K, A], likewise.
    """

    def __init__(
        self, ground_truth: dict[str, Any], results: Sequence[dict[str, Any]], iou_type: str, max_dets: int = 300
    ) -> None:
        """
        Args:
            ground_truth: the content of an LVIS file: images (with `neg_category_ids` and
                `not_exhaustive_category_ids`), categories (with `frequency`) and annotations.
            results: in COCO's result format.
            iou_type: "bbox" or "segm"; areas are those of boxes or of masks.
            max_dets: detections of one image that count.

        Raises:
            ValueError: another iou_type, or a result whose image is not in the ground truth.
        """
        if iou_type not in ("bbox", "segm"):
            raise ValueError(f"LVIS evaluates 'bbox' and 'segm', not {iou_type!r}")
        self.max_dets = max_dets
        self._iou_type = iou_type
        self._images = {image["id"]: image for image in ground_truth["images"]}
        categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
        self.category_ids = [category["id"] for category in categories]
        self.frequencies = np.array([category["frequency"] for category in categories])

        objects: dict[tuple[Any, int], list[dict[str, Any]]] = defaultdict(list)
        for annotation in ground_truth["annotations"]:
            objects[annotation["image_id"], annotation["category_id"]].append(annotation)
        detections: dict[tuple[Any, int], list[dict[str, Any]]] = defaultdict(list)
        for result in best_per_image(results, max_dets):
            image, category = result["image_id"], result["category_id"]
            if image not in self._images:
                raise ValueError(
                    f"there is a prediction for image_id={image!r}, which the annotation file does not have"
                )
            if (image, category) in objects or category in self._images[image]["neg_category_ids"]:
                detections[image, category].append(result)
        self._evaluate(objects, detections)

    def _evaluate(self, objects: dict, detections: dict) -> None:
        num_thresholds, num_areas, num_categories = len(IOU_THRESHOLDS), len(AREA_RANGES), len(self.category_ids)
        self.precision = np.full((num_thresholds, len(RECALL_POINTS), num_categories, num_areas), -1.0)
        self.recall = np.full((num_thresholds, num_categories, num_areas), -1.0)
        images_of = defaultdict(set)
        for image, category in [*objects, *detections]:
            images_of[category].add(image)
        for index, category in enumerate(self.category_ids):
            parts = [
                self._one_image(
                    objects.get((image, category), []), detections.get((image, category), []), image, category
                )
                for image in sorted(images_of[category])
            ]
            if parts:
                self._accumulate(index, parts)

    def _one_image(self, objects: list, detections: list, image: Any, category: int) -> tuple[np.ndarray, ...]:
        """Scores [D], hits and misses [T, A, D], and the number of objects that count [A]."""
        detections = sorted(detections, key=lambda detection: -detection["score"])
        scores = np.array([detection["score"] for detection in detections])
        areas = np.array([self._area(detection) for detection in detections])
        ignored = _outside(np.array([one["area"] for one in objects]))
        ignored |= np.array([bool(one.get("ignore", 0)) for one in objects], dtype=bool)
        not_exhaustive = category in self._images[image]["not_exhaustive_category_ids"]

        matched = match(self._iou(detections, objects, image), ignored)
        is_matched = matched >= 0
        hits = is_matched.copy()
        if objects:
            hits &= ~np.take_along_axis(np.broadcast_to(ignored, (len(matched), *ignored.shape)), matched, axis=2)
        misses = ~is_matched & ~(_outside(areas) | not_exhaustive)
        return scores, hits, misses, (~ignored).sum(axis=1)

    def _accumulate(self, index: int, parts: list[tuple[np.ndarray, ...]]) -> None:
        scores = np.concatenate([part[0] for part in parts])
        order = np.argsort(-scores, kind="stable")
        hits = np.concatenate([part[1] for part in parts], axis=2)[:, :, order]
        misses = np.concatenate([part[2] for part in parts], axis=2)[:, :, order]
        for area, num_objects in enumerate(np.sum([part[3] for part in parts], axis=0)):
            if num_objects == 0:
                continue
            for threshold in range(len(IOU_THRESHOLDS)):
                precision, recall = precision_at_recall(hits[threshold, area], misses[threshold, area], num_objects)
                self.precision[threshold, :, index, area] = precision
                self.recall[threshold, index, area] = recall

    def _area(self, detection: dict[str, Any]) -> float:
        if self._iou_type == "segm":
            return float(mask_util.area(detection["segmentation"]))
        return detection["bbox"][2] * detection["bbox"][3]

    def _iou(self, detections: list, objects: list, image: Any) -> np.ndarray:
        """[D, G]"""
        if not detections or not objects:
            return np.zeros((len(detections), len(objects)))
        if self._iou_type == "bbox":
            return mask_util.iou([d["bbox"] for d in detections], [o["bbox"] for o in objects], [0] * len(objects))
        size = self._images[image]["height"], self._images[image]["width"]
        masks = [_as_rle(one["segmentation"], *size) for one in objects]
        return mask_util.iou([d["segmentation"] for d in detections], masks, [0] * len(objects))

    def average_precision(
        self, threshold: float | None = None, area: str = "all", frequency: str | None = None
    ) -> float:
        """The mean over thresholds (or at one), recalls, categories (or those of a frequency); NaN without objects."""
        values = self.precision[..., list(AREA_RANGES).index(area)]
        if threshold is not None:
            values = values[np.isclose(IOU_THRESHOLDS, threshold)]
        if frequency is not None:
            values = values[:, :, self.frequencies == frequency]
        values = values[values > -1]
        return float(values.mean()) if values.size else float("nan")

    def average_recall(self, area: str = "all") -> float:
        """The mean over thresholds and categories; NaN without objects."""
        values = self.recall[..., list(AREA_RANGES).index(area)]
        values = values[values > -1]
        return float(values.mean()) if values.size else float("nan")


def _outside(areas: np.ndarray) -> np.ndarray:
    """[A, N]: areas [N] that are not in a range."""
    bounds = np.array(list(AREA_RANGES.values()))
    return (areas < bounds[:, :1]) | (areas > bounds[:, 1:])


def _as_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Compressed run lengths of polygons, of uncompressed or of compressed run lengths."""
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, height, width)
    return segmentation
