"""Average recall of class-agnostic box proposals (Hosang et al., "What makes for effective detection proposals?")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pycocotools.coco import COCO

from detectron2.structures import Boxes, BoxMode, pairwise_iou

# Bounds of the annotated area in square pixels.
_AREA_RANGES = {
    "all": (0**2, 1e5**2),
    "small": (0**2, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
    "96-128": (96**2, 128**2),
    "128-256": (128**2, 256**2),
    "256-512": (256**2, 512**2),
    "512-inf": (512**2, 1e5**2),
}


def _evaluate_box_proposals(
    dataset_predictions: Sequence[dict[str, Any]],
    coco_api: COCO,
    thresholds: torch.Tensor | None = None,
    area: str = "all",
    limit: int | None = None,
) -> dict[str, Any]:
    """Recall of ground-truth boxes among the best proposals of each image.

    Each image's proposals and boxes are paired greedily by IoU, each used once. Images without any proposal are left
    out, their boxes do not count as missed.

    Args:
        dataset_predictions: dicts with `image_id` and `proposals` (`proposal_boxes`, `objectness_logits`).
        thresholds: IoU thresholds; default 0.5, 0.55, ..., 0.95.
        area: a key of the area ranges: all, small, medium, large, 96-128, 128-256, 256-512 or 512-inf.
        limit: the number of best proposals to use in each image; default all.

    Returns:
        `ar` (mean recall over thresholds), `recalls`, `thresholds`, `gt_overlaps` (sorted best IoU of each box),
        `num_pos` (number of boxes).
    """
    if area not in _AREA_RANGES:
        raise ValueError(f"unknown area range {area!r}; known are {', '.join(_AREA_RANGES)}")
    low, high = _AREA_RANGES[area]
    overlaps: list[torch.Tensor] = []
    num_pos = 0
    for prediction in dataset_predictions:
        proposals = prediction["proposals"]
        if len(proposals) == 0:
            continue
        annotations = [
            ann
            for ann in coco_api.imgToAnns.get(prediction["image_id"], [])
            if not ann["iscrowd"] and low <= ann["area"] <= high
        ]
        if not annotations:
            continue
        num_pos += len(annotations)
        best = proposals.objectness_logits.argsort(descending=True)[:limit]
        corners = [BoxMode.convert(ann["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for ann in annotations]
        gt_boxes = Boxes(torch.as_tensor(corners, dtype=torch.float32).reshape(-1, 4))
        overlaps.append(_greedy_overlaps(pairwise_iou(proposals.proposal_boxes[best], gt_boxes)))

    gt_overlaps = torch.cat(overlaps) if overlaps else torch.zeros(0, dtype=torch.float32)
    gt_overlaps = gt_overlaps.sort().values
    if thresholds is None:
        thresholds = torch.arange(0.5, 0.95 + 1e-5, 0.05, dtype=torch.float32)
    hits = torch.stack([(gt_overlaps >= threshold).float().sum() for threshold in thresholds])
    recalls = hits / float(num_pos) if num_pos else torch.full_like(hits, float("nan"))
    return {
        "ar": recalls.mean(),
        "recalls": recalls,
        "thresholds": thresholds,
        "gt_overlaps": gt_overlaps,
        "num_pos": num_pos,
    }


def _greedy_overlaps(iou: torch.Tensor) -> torch.Tensor:
    """Best IoU of each ground-truth box when the best remaining (proposal, box) pair is taken again and again.

    The pair taken is that of the box whose best proposal overlaps it most.

    Args:
        iou: [num_proposals, num_boxes], float32.

    Returns:
        [num_boxes], 0 for boxes without a proposal left, in the order of the pairing.
    """
    iou = iou.clone()
    num_proposals, num_boxes = iou.shape
    overlaps = torch.zeros(num_boxes, dtype=iou.dtype)
    for turn in range(min(num_proposals, num_boxes)):
        index = int(iou.argmax())
        proposal, box = divmod(index, num_boxes)
        overlaps[turn] = iou[proposal, box]
        iou[proposal, :] = -1
        iou[:, box] = -1
    return overlaps
