"""Detections made from ground truth: moved, doubled, missed and mislabelled, with random scores."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO


def load_coco(path: Path) -> COCO:
    """Ground truth without the printing."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def coco_from_dict(dataset: dict) -> COCO:
    """Ground truth that is in memory."""
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def perturbed_results(coco: COCO, seed: int = 0) -> list[dict]:
    """COCO results with `bbox`, `segmentation` and, where annotated, `keypoints`."""
    rng = np.random.default_rng(seed)
    category_ids = sorted(coco.getCatIds())
    results = []
    for annotation in (coco.anns[key] for key in sorted(coco.anns)):
        for _ in range(rng.integers(0, 4)):
            x, y, width, height = np.array(annotation["bbox"]) * (1 + rng.normal(0, 0.07, 4))
            mask = np.roll(coco.annToMask(annotation), rng.integers(-5, 6, 2), (0, 1))
            rle = mask_util.encode(np.asfortranarray(mask))
            result = {
                "image_id": annotation["image_id"],
                "category_id": int(rng.choice(category_ids)) if rng.random() < 0.1 else annotation["category_id"],
                "bbox": [float(x), float(y), float(max(width, 1)), float(max(height, 1))],
                "score": round(float(rng.random()), 2),  # two digits, so that some scores are equal
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
            if "keypoints" in annotation:
                points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
                points[:, :2] += rng.normal(0, 0.04 * max(width, 1), points[:, :2].shape)
                result["keypoints"] = points.reshape(-1).tolist()
            results.append(result)
    return results


def synthetic_boxes(num_images: int, detections_per_image: int = 100, seed: int = 0) -> tuple[COCO, list[dict]]:
    """A box data set of COCO's make-up (80 classes, 7 objects per image, crowds), and its detections."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(1, num_images + 1):
        sizes = rng.uniform(8, 200, (7, 2))
        boxes = np.concatenate([rng.uniform(0, 1, (7, 2)) * (np.array([640, 480]) - sizes), sizes], axis=1)
        classes = rng.integers(1, 81, 7)
        for box, category in zip(boxes, classes):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(category),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3] * 0.7),
                    "iscrowd": int(rng.random() < 0.02),
                }
            )
        near = rng.integers(0, 7, detections_per_image)
        moved = boxes[near] + rng.normal(0, 10, (detections_per_image, 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], 2)
        labels = np.where(
            rng.random(detections_per_image) < 0.6, classes[near], rng.integers(1, 81, detections_per_image)
        )
        results += [
            {"image_id": image_id, "category_id": int(label), "bbox": box.tolist(), "score": float(rng.random())}
            for box, label in zip(moved, labels)
        ]
    images = [{"id": image_id, "height": 480, "width": 640} for image_id in range(1, num_images + 1)]
    categories = [{"id": category, "name": str(category)} for category in range(1, 81)]
    return coco_from_dict({"images": images, "annotations": annotations, "categories": categories}), results
