"""What all RoI heads share: their registry, and the training sample drawn from the proposals.

Shape letters: N images, Ri boxes of image i, Gi objects of image i, K foreground classes; class K is the background.
Boxes are absolute pixels XYXY. Name prefixes: gt_ truth, pred_ predicted.
"""

from typing import Any

import torch
from torch import nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, cat, nonzero_tuple
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = """
RoI heads, chosen by MODEL.ROI_HEADS.NAME: called as `heads(cfg, input_shape)`, they take images, feature maps and
proposals, with targets in training, and return instances and a dict of losses.
"""


def build_roi_heads(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The RoI heads that MODEL.ROI_HEADS.NAME names, for feature maps of the given shapes."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Per image, the proposals whose `gt_classes` is neither background nor -1 (ignored), and their (Ri,) bool mask."""
    if not isinstance(proposals, list | tuple) or not all(p.has("gt_classes") for p in proposals):
        raise ValueError("select_foreground_proposals: needs a list of Instances with gt_classes")
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    return [p[nonzero_tuple(mask)[0]] for p, mask in zip(proposals, masks)], masks


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """Per image, the proposals with at least one annotated keypoint inside the proposal box.

    The others have nothing to learn from. `proposals` carry `proposal_boxes` and `gt_keypoints`; an image's Instances
    that are empty stay as they are.
    """
    selected, counts = [], []
    for per_image in proposals:
        if len(per_image) == 0:
            selected.append(per_image)
            continue
        x, y, visibility = per_image.gt_keypoints.tensor.unbind(dim=2)
        x0, y0, x1, y1 = per_image.proposal_boxes.tensor[:, :, None].unbind(dim=1)
        inside = (visibility >= 1) & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        rows = nonzero_tuple(inside.any(dim=1))[0]
        selected.append(per_image[rows])
        counts.append(len(rows))
    get_event_storage().put_scalar("keypoint_head/num_fg_samples", sum(counts) / max(len(counts), 1))
    return selected


class ROIHeads(nn.Module):
    """What all RoI heads share: matching proposals with the objects and drawing the training sample."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ):
        """
        Args:
            num_classes: K.
            batch_size_per_image: number of proposals drawn from each image in training.
            positive_fraction: share of foreground among them, at most.
            proposal_matcher: matches proposals with objects by IoU.
            proposal_append_gt: whether the objects' own boxes join the proposals before the draw.
        """
        super().__init__()
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.num_classes = num_classes
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        heads = cfg.MODEL.ROI_HEADS
        return {
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "num_classes": heads.NUM_CLASSES,
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
            "proposal_matcher": Matcher(heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False),
        }

    def _sample_proposals(
        self, matched_idxs: torch.Tensor, matched_labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw one image's training sample.

        Args:
            matched_idxs: (Ri,), the object in [0, Gi) that each proposal matches best.
            matched_labels: (Ri,), 1 foreground, 0 background, -1 ignored.
            gt_classes: (Gi,)

        Returns:
            indices of the drawn proposals, foreground first, and the class of each: K for background.
        """
        if gt_classes.numel() > 0:
            classes = gt_classes[matched_idxs]
            classes[matched_labels == 0] = self.num_classes
            classes[matched_labels == -1] = -1
        else:
            classes = torch.full_like(matched_idxs, self.num_classes)
        drawn = cat(subsample_labels(classes, self.batch_size_per_image, self.positive_fraction, self.num_classes))
        return drawn, classes[drawn]

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """Draw the training sample of each image and give it the truth of the objects that it matches.

        Args:
            proposals: per image, Instances with `proposal_boxes`, and `objectness_logits` where they come from an RPN.
            targets: per image, Instances with `gt_boxes`, `gt_classes` and any other `gt_*` field.

        Returns:
            per image, the drawn proposals with `gt_classes` (K for background) and, where the image has objects, every
            `gt_*` field of the matched object (of no meaning for background).
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)

        sampled = []
        num_fg, num_bg = 0.0, 0.0
        for proposals_per_image, targets_per_image in zip(proposals, targets):
            quality = pairwise_iou(targets_per_image.gt_boxes, proposals_per_image.proposal_boxes)
            matched_idxs, matched_labels = self.proposal_matcher(quality)
            drawn, classes = self._sample_proposals(matched_idxs, matched_labels, targets_per_image.gt_classes)

            drawn_proposals = proposals_per_image[drawn]
            drawn_proposals.gt_classes = classes
            if len(targets_per_image) > 0:
                objects = matched_idxs[drawn]
                for name, value in targets_per_image.get_fields().items():
                    if name.startswith("gt_") and not drawn_proposals.has(name):
                        drawn_proposals.set(name, value[objects])
            num_background = (classes == self.num_classes).sum().item()
            num_bg += num_background
            num_fg += classes.numel() - num_background
            sampled.append(drawn_proposals)

        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", num_fg / max(len(sampled), 1))
        storage.put_scalar("roi_head/num_bg_samples", num_bg / max(len(sampled), 1))
        return sampled

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """
        Args:
            images: the N images.
            features: feature maps by name, each (N, C, H, W).
            proposals: per image, Instances with `proposal_boxes`.
            targets: in training, per image, Instances with `gt_boxes`, `gt_classes` and what else the heads learn.

        Returns:
            per image, Instances with `pred_*` fields (in training: the drawn proposals or nothing), and the losses,
            empty in inference.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(images, features, proposals, targets)")


def check_given_boxes(heads: ROIHeads, instances: list[Instances]) -> None:
    """Raise unless `heads` are in inference and the instances have what `forward_with_given_boxes` needs."""
    name = type(heads).__name__
    if heads.training:
        raise RuntimeError(f"{name}.forward_with_given_boxes is for inference: call eval() first")
    if instances and not (instances[0].has("pred_boxes") and instances[0].has("pred_classes")):
        raise ValueError(f"{name}.forward_with_given_boxes: instances need pred_boxes and pred_classes")
