"""Choice of the proposals that leave the RPN, and ground truth among the proposals.

Shapes:
    N: number of images
    Hi, Wi, A: size of feature map i and its number of anchors per cell
    T: number of candidates of all levels together that enter NMS
"""

import logging
import math
from collections.abc import Sequence

import torch

from detectron2.layers import batched_nms, cat
from detectron2.layers.wrappers import at_most
from detectron2.structures import Boxes, Instances

logger = logging.getLogger(__name__)


def _is_tracing() -> bool:
    return torch.jit.is_tracing()


def select_top_candidates(
    pred_objectness_logits: list[torch.Tensor], pre_nms_topk: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The ``pre_nms_topk`` highest logits of each level and image.

    Args:
        pred_objectness_logits: one per level, (N, Hi*Wi*A).
        pre_nms_topk: how many of each level.

    Returns:
        Per level the logits, descending, and their indices on axis 1; both (N, min(pre_nms_topk, Hi*Wi*A)).
    """
    tops = [logits.topk(at_most(logits.shape[1], pre_nms_topk), dim=1) for logits in pred_objectness_logits]
    return [top.values for top in tops], [top.indices for top in tops]


def suppress_and_rank_proposals(
    candidate_boxes: list[torch.Tensor],
    candidate_logits: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Clips candidates to their image, drops small ones, applies NMS within each level and keeps the best.

    Args:
        candidate_boxes: one per level, (N, Ti, 4) XYXY.
        candidate_logits: one per level, (N, Ti).
        image_sizes: (height, width) of each image, without padding.
        nms_thresh: IoU above which the lower-scored box of the same level goes.
        post_nms_topk: how many proposals an image keeps.
        min_box_size: a box with a side of at most this many pixels goes.
        training: non-finite candidates are an error in training; in inference they are dropped.

    Returns:
        Per image ``Instances`` with ``proposal_boxes`` and ``objectness_logits``, highest logit first.

    Raises:
        FloatingPointError: a box or logit is not finite in training.
    """
    boxes_batch = cat(candidate_boxes, dim=1)
    logits_batch = cat(candidate_logits, dim=1)
    device = logits_batch.device
    levels = cat(
        [torch.full((x.shape[1],), i, dtype=torch.int64, device=device) for i, x in enumerate(candidate_logits)]
    )
    finite = torch.isfinite(boxes_batch).all(dim=2) & torch.isfinite(logits_batch)
    all_finite = not _is_tracing() and bool(finite.all())
    if training and not all_finite:
        raise FloatingPointError("Predicted boxes or scores contain Inf/NaN. Training has diverged.")

    results = []
    for image_index, image_size in enumerate(image_sizes):
        boxes = Boxes(boxes_batch[image_index])
        logits = logits_batch[image_index]
        image_levels = levels
        if not all_finite:
            valid = finite[image_index]
            boxes, logits, image_levels = boxes[valid], logits[valid], levels[valid]
        boxes.clip(image_size)
        keep = boxes.nonempty(threshold=min_box_size)
        if _is_tracing() or not bool(keep.all()):
            boxes, logits, image_levels = boxes[keep], logits[keep], image_levels[keep]

        kept = batched_nms(boxes.tensor, logits, image_levels, nms_thresh)[:post_nms_topk]
        proposals = Instances(image_size)
        proposals.proposal_boxes = boxes[kept]
        proposals.objectness_logits = logits[kept]
        results.append(proposals)
    return results


def find_top_rpn_proposals(
    proposals: list[torch.Tensor],
    pred_objectness_logits: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Chooses the proposals that leave the RPN from all decoded ones (Ren et al., section 3.3; per level as in FPN).

    Args:
        proposals: one per level, (N, Hi*Wi*A, 4) decoded XYXY boxes.
        pred_objectness_logits: one per level, (N, Hi*Wi*A).
        image_sizes: (height, width) of each image, without padding.
        nms_thresh: IoU threshold of NMS.
        pre_nms_topk: how many candidates of each level enter NMS.
        post_nms_topk: how many proposals an image keeps, over all levels.
        min_box_size: smallest side in pixels.
        training: raises at non-finite predictions instead of dropping them.

    Returns:
        Per image ``Instances`` with ``proposal_boxes`` and ``objectness_logits``, highest logit first.
    """
    logits, indices = select_top_candidates(pred_objectness_logits, pre_nms_topk)
    boxes = [
        level.gather(1, idx.unsqueeze(-1).expand(-1, -1, level.shape[-1])) for level, idx in zip(proposals, indices)
    ]
    return suppress_and_rank_proposals(boxes, logits, image_sizes, nms_thresh, post_nms_topk, min_box_size, training)


def add_ground_truth_to_proposals(gt: Sequence[Instances | Boxes], proposals: list[Instances]) -> list[Instances]:
    """Appends each image's ground-truth boxes to its proposals, so that RoI heads always see good ones in training.

    Args:
        gt: per image, ``Instances`` with ``gt_boxes``, or ``Boxes``.
        proposals: per image, ``Instances`` with ``proposal_boxes`` and ``objectness_logits``.

    Returns:
        New ``Instances``; the logits of ground truth stand for an objectness of nearly 1.
    """
    if len(proposals) != len(gt):
        raise ValueError(f"proposals and gt must be of the same images: got {len(proposals)} and {len(gt)} images")
    return [
        add_ground_truth_to_proposals_single_image(image_gt, image_proposals)
        for image_gt, image_proposals in zip(gt, proposals)
    ]


def add_ground_truth_to_proposals_single_image(gt: Instances | Boxes, proposals: Instances) -> Instances:
    """``add_ground_truth_to_proposals`` for one image."""
    gt_boxes = gt if isinstance(gt, Boxes) else gt.gt_boxes
    device = proposals.objectness_logits.device
    # The logit of p = 1 - 1e-10; of 1 it would be infinite.
    gt_logit = math.log((1.0 - 1e-10) / (1 - (1.0 - 1e-10)))
    gt_proposals = Instances(proposals.image_size)
    gt_proposals.proposal_boxes = gt_boxes
    gt_proposals.objectness_logits = torch.full((len(gt_boxes),), gt_logit, device=device)
    for name in proposals.get_fields():
        assert name in ("proposal_boxes", "objectness_logits") or (isinstance(gt, Instances) and gt.has(name)), (
            f"The attribute '{name}' in `proposals` does not exist in `gt`"
        )
        if name not in ("proposal_boxes", "objectness_logits"):
            gt_proposals.set(name, gt.get(name))  # type: ignore[union-attr]
    return Instances.cat([proposals, gt_proposals])
