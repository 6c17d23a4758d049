"""From `Instances` to COCO's result format, and from COCO results to an object that the evaluation reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from pycocotools.coco import COCO

from detectron2.structures import BoxMode, Instances


def instances_to_coco_json(instances: Instances, img_id: Any) -> list[dict[str, Any]]:
    """Write the detections of one image in COCO's result format.

    Args:
        instances: on CPU, with `pred_boxes` (N, 4, XYXY pixels), `scores`, `pred_classes`, and optionally
            `pred_masks` (N, H, W, bool) or `pred_masks_rle` (N dicts), `pred_keypoints` (N, K, 3: x, y, score).
        img_id: the image's id in the data set.

    Returns:
        N dicts with `image_id`, `category_id`, `bbox` (XYWH), `score`, and `segmentation` (compressed RLE, `counts` as
        str), `keypoints` (flat list of 3 K) where predicted. Keypoints move by half a pixel: COCO annotates pixel
        indices, the predictions are coordinates where pixel (0, 0) has its centre at (0.5, 0.5).
    """
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor.numpy(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    scores = instances.scores.tolist()
    classes = instances.pred_classes.tolist()
    results = [
        {"image_id": img_id, "category_id": category, "bbox": box, "score": score}
        for category, box, score in zip(classes, boxes, scores)
    ]
    if instances.has("pred_masks_rle"):
        for result, rle in zip(results, instances.pred_masks_rle):
            result["segmentation"] = {**rle, "counts": _text(rle["counts"])}
    elif instances.has("pred_masks"):
        for result, rle in zip(results, _encode_masks(instances.pred_masks)):
            result["segmentation"] = rle
    if instances.has("pred_keypoints"):
        keypoints = instances.pred_keypoints.clone()
        keypoints[:, :, :2] -= 0.5
        for result, flat in zip(results, keypoints.flatten(1).tolist()):
            result["keypoints"] = flat
    return results


def _text(counts: str | bytes) -> str:
    return counts.decode("utf-8") if isinstance(counts, bytes) else counts


def _encode_masks(masks: Any) -> list[dict[str, Any]]:
    """Run-length encode the N masks of one image; only the part of a mask that holds the object is read twice.

    Args:
        masks: tensor, or an object with `.tensor`, of shape [N, H, W].
    """
    pixels = torch.as_tensor(getattr(masks, "tensor", masks)).bool().contiguous().numpy()
    return [_encode_mask(mask) for mask in pixels]


def _encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask [H, W]; the runs go down the columns."""
    height, width = mask.shape
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        runs = np.array([height * width])
    else:
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(mask[top:bottom].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        # One empty row below keeps the runs of neighbouring columns apart; one zero in front starts the first run.
        part_height = bottom - top + 1
        part = np.zeros(1 + (right - left) * part_height, dtype=bool)
        part[1:].reshape(right - left, part_height)[:, :-1] = mask[top:bottom, left:right].T
        column, row = np.divmod(np.flatnonzero(part[1:] != part[:-1]), part_height)
        ends = (left + column) * height + top + row
        if part_height > height:  # where a run ends at the lower edge, the next one may go on at the upper edge
            joined = np.flatnonzero(ends[1:] == ends[:-1])
            ends = np.delete(ends, np.concatenate([joined, joined + 1]))
        runs = np.diff(np.concatenate([[0], ends, [height * width]]))
        if runs[-1] == 0:
            runs = runs[:-1]
    rle = mask_util.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return {"size": [height, width], "counts": _text(rle["counts"])}


def to_dataset_categories(
    coco_results: Sequence[dict[str, Any]], contiguous_ids: Mapping[int, int], dataset_name: str
) -> list[dict[str, Any]]:
    """Copy results with the model's class numbers replaced by the data set's category ids.

    Args:
        contiguous_ids: `{category id in the data set: class number of the model}`.

    Raises:
        ValueError: a predicted class that the data set has not.
    """
    dataset_ids = {contiguous: dataset_id for dataset_id, contiguous in contiguous_ids.items()}
    num_classes = len(dataset_ids)
    if sorted(dataset_ids) != list(range(num_classes)) or num_classes != len(contiguous_ids):
        raise ValueError(
            f"data set {dataset_name!r}: thing_dataset_id_to_contiguous_id must map to 0..{len(contiguous_ids) - 1}, "
            f"each once, but maps to {sorted(contiguous_ids.values())}"
        )
    mapped = []
    for result in coco_results:
        category = result["category_id"]
        if category not in dataset_ids:
            raise ValueError(
                f"image {result['image_id']}: the model predicts class {category}, the data set {dataset_name!r} has "
                f"the classes 0 to {num_classes - 1} (category ids {sorted(contiguous_ids)}); set "
                f"MODEL.ROI_HEADS.NUM_CLASSES to {num_classes}"
            )
        mapped.append({**result, "category_id": dataset_ids[category]})
    return mapped


_TASK_FIELDS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}


def results_for_task(coco_gt: COCO, coco_results: Sequence[dict[str, Any]], iou_type: str) -> COCO:
    """Index results for the evaluation of one task, as `COCO.loadRes` does, without changing them.

    The area that COCO's size ranges use is that of the mask for masks, and of the box for boxes and keypoints
    (keypoints without a box: of the box around them).

    Raises:
        ValueError: a result whose image is not in the ground truth, or that lacks the field of the task.
    """
    field = _TASK_FIELDS[iou_type]
    for result in coco_results:
        if result["image_id"] not in coco_gt.imgs:
            raise ValueError(
                f"Results do not correspond to current coco set: there is a prediction for image_id="
                f"{result['image_id']!r}, which is not among the {len(coco_gt.imgs)} images of the annotation file"
            )
        if field not in result:
            raise ValueError(
                f"COCOEvaluator: task {iou_type!r} needs predictions with {field!r}; those of image_id="
                f"{result['image_id']!r} have {sorted(result)}"
            )
    if iou_type == "segm":
        boxes: list[Any] = [None] * len(coco_results)
        areas = _mask_areas([result["segmentation"] for result in coco_results])
    else:
        boxes = [result.get("bbox") or _box_around(result["keypoints"]) for result in coco_results]
        areas = [box[2] * box[3] for box in boxes]

    annotations = []
    for index, (result, box, area) in enumerate(zip(coco_results, boxes, areas), start=1):
        annotation = {
            "id": index,
            "image_id": result["image_id"],
            "category_id": result["category_id"],
            "score": result["score"],
            "area": area,
            "iscrowd": 0,
            field: result[field],
        }
        if box is not None:
            annotation["bbox"] = box
        annotations.append(annotation)
    return _index(coco_gt, annotations)


def _mask_areas(rles: Sequence[dict[str, Any]]) -> list[int]:
    # pycocotools counts the masks of one call in a byte.
    pieces = (rles[start : start + 255] for start in range(0, len(rles), 255))
    return [area for piece in pieces for area in mask_util.area(piece).tolist()]


def _box_around(keypoints: Sequence[float]) -> list[float]:
    x, y = keypoints[0::3], keypoints[1::3]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _index(coco_gt: COCO, annotations: list[dict[str, Any]]) -> COCO:
    """A `COCO` object over the ground truth's images and categories; filled directly since its own method prints."""
    coco_dt = COCO()
    coco_dt.dataset = {
        "info": copy.deepcopy(coco_gt.dataset.get("info", {})),
        "images": list(coco_gt.dataset["images"]),
        "categories": copy.deepcopy(coco_gt.dataset["categories"]),
        "annotations": annotations,
    }
    coco_dt.imgs = coco_gt.imgs
    coco_dt.cats = coco_gt.cats
    for annotation in annotations:
        coco_dt.anns[annotation["id"]] = annotation
        coco_dt.imgToAnns[annotation["image_id"]].append(annotation)
        coco_dt.catToImgs[annotation["category_id"]].append(annotation["image_id"])
    return coco_dt
