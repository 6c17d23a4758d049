"""The last layers of Fast R-CNN (arXiv 1504.08083): class scores and box deltas, their losses, and detection.

Shape letters: R boxes of the whole batch, Ri boxes of image i, K foreground classes, D detections.
Class K is the background. Boxes are absolute pixels XYXY. Name prefixes: gt_ truth, pred_ predicted.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms, cat, cross_entropy, nonzero_tuple
from detectron2.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

__all__ = ["fast_rcnn_inference", "FastRCNNOutputLayers"]


def fast_rcnn_inference(
    boxes: Sequence[torch.Tensor],
    scores: Sequence[torch.Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Detections of each image: score threshold, NMS within each class, best `topk_per_image`.

    Args:
        boxes: per image, (Ri, K·4) or, class-agnostic, (Ri, 4).
        scores: per image, (Ri, K + 1) probabilities.
        image_shapes: per image, (height, width).
        score_thresh: only scores above it are kept.
        nms_thresh: IoU above which the lower of two boxes of a class is dropped.
        topk_per_image: at most so many detections; negative: all.

    Returns:
        per image, Instances with `pred_boxes`, `scores`, `pred_classes`, the best first; per image, the index in
        [0, Ri) of the box that each detection comes from.
    """
    results = [
        fast_rcnn_inference_single_image(*per_image, score_thresh, nms_thresh, topk_per_image)
        for per_image in zip(boxes, scores, image_shapes)
    ]
    return [instances for instances, _ in results], [kept for _, kept in results]


def fast_rcnn_inference_single_image(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, torch.Tensor]:
    """`fast_rcnn_inference` of one image: boxes (Ri, K·4 or 4) and scores (Ri, K + 1) to D detections.

    Rows that hold a value that is not finite are left out; the returned indices then count the rows that remain.
    """
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    if not finite.all():
        boxes, scores = boxes[finite], scores[finite]
    scores = scores[:, :-1]
    boxes = boxes.view(boxes.shape[0], boxes.shape[1] // 4, 4)

    # most scores fail the threshold: what is left is clipped, not all R·K boxes
    rows, classes = nonzero_tuple(scores > score_thresh)
    scores = scores[rows, classes]
    kept_boxes = Boxes(boxes[rows, classes if boxes.shape[1] > 1 else torch.zeros_like(classes)])
    kept_boxes.clip(image_shape)

    keep = batched_nms(kept_boxes.tensor, scores, classes, nms_thresh)
    if topk_per_image >= 0:
        keep = keep[:topk_per_image]

    result = Instances(image_shape)
    result.pred_boxes = kept_boxes[keep]
    result.scores = scores[keep]
    result.pred_classes = classes[keep]
    return result, rows[keep]


def _log_classification_stats(pred_logits: torch.Tensor, gt_classes: torch.Tensor, prefix: str = "fast_rcnn") -> None:
    """Put the accuracy over all boxes and over foreground, and the rate of foreground that is called background.

    Args:
        pred_logits: (R, K + 1).
        gt_classes: (R,); values outside [0, K) are not foreground.
        prefix: of the names `<prefix>/cls_accuracy`, `<prefix>/fg_cls_accuracy`, `<prefix>/false_negative`.
    """
    num_boxes = gt_classes.numel()
    if num_boxes == 0:
        return
    background = pred_logits.shape[1] - 1
    pred_classes = pred_logits.argmax(dim=1)
    correct = pred_classes == gt_classes
    foreground = (gt_classes >= 0) & (gt_classes < background)
    # one transfer for all counts
    num_foreground, num_correct, num_fg_correct, num_missed = torch.stack(
        [
            foreground.sum(),
            correct.sum(),
            (correct & foreground).sum(),
            ((pred_classes == background) & foreground).sum(),
        ]
    ).tolist()

    storage = get_event_storage()
    storage.put_scalar(f"{prefix}/cls_accuracy", num_correct / num_boxes)
    if num_foreground > 0:
        storage.put_scalar(f"{prefix}/fg_cls_accuracy", num_fg_correct / num_foreground)
        storage.put_scalar(f"{prefix}/false_negative", num_missed / num_foreground)


def _federated_class_weights(cfg) -> torch.Tensor:
    """Frequency weight of each class of the training set, for the federated loss."""
    # here alone a model reads the data set's statistics, and only where the federated loss is on
    from detectron2.data.detection_utils import get_fed_loss_cls_weights

    return get_fed_loss_cls_weights(cfg.DATASETS.TRAIN, cfg.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER)


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers, class scores and box deltas, with the losses and the inference on their outputs."""

    fed_loss_cls_weights: torch.Tensor

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | dict[str, float] = 1.0,
        use_fed_loss: bool = False,
        use_sigmoid_ce: bool = False,
        get_fed_loss_cls_weights: Callable[[], torch.Tensor] | None = None,
        fed_loss_num_classes: int = 50,
    ):
        """
        Args:
            input_shape: shape of one box's feature.
            box2box_transform: encoding of boxes as deltas.
            num_classes: K.
            test_score_thresh: only scores above it are detections.
            test_nms_thresh: IoU of the NMS within each class.
            test_topk_per_image: at most so many detections of an image.
            cls_agnostic_bbox_reg: one box for all classes instead of one for each.
            smooth_l1_beta: where smooth L1 turns from quadratic to linear; 0: L1.
            box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
            loss_weight: factor of all losses, or of each by its name ("loss_cls", "loss_box_reg").
            use_fed_loss: score only a sample of the classes (federated loss, arXiv 2103.07461); needs `use_sigmoid_ce`.
            use_sigmoid_ce: independent sigmoid cross-entropy of each class instead of softmax.
            get_fed_loss_cls_weights: returns the (K,) weights by which the federated loss draws its classes.
            fed_loss_num_classes: number of classes that the federated loss scores.
        """
        super().__init__()
        features = math.prod(side for side in (input_shape.channels, input_shape.height, input_shape.width) if side)
        num_bbox_reg_classes = 1 if cls_agnostic_bbox_reg else num_classes
        box_dim = len(box2box_transform.weights)
        self.num_classes = num_classes
        self.cls_score = nn.Linear(features, num_classes + 1)
        self.bbox_pred = nn.Linear(features, num_bbox_reg_classes * box_dim)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

        self.box2box_transform = box2box_transform
        self.smooth_l1_beta = smooth_l1_beta
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image
        self.box_reg_loss_type = box_reg_loss_type
        if isinstance(loss_weight, float | int):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight
        self.use_fed_loss = use_fed_loss
        self.use_sigmoid_ce = use_sigmoid_ce
        self.fed_loss_num_classes = fed_loss_num_classes
        if use_fed_loss:
            self._register_fed_loss_cls_weights(get_fed_loss_cls_weights)

    def _register_fed_loss_cls_weights(self, get_weights: Callable[[], torch.Tensor] | None) -> None:
        if not self.use_sigmoid_ce:
            raise ValueError("The federated loss needs sigmoid cross-entropy: set ROI_BOX_HEAD.USE_SIGMOID_CE True")
        if get_weights is None:
            raise ValueError("The federated loss needs get_fed_loss_cls_weights, which returns the class weights")
        weights = get_weights()
        if len(weights) != self.num_classes:
            raise ValueError(f"get_fed_loss_cls_weights gave {len(weights)} weights for {self.num_classes} classes")
        self.register_buffer("fed_loss_cls_weights", weights)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict[str, Any]:
        head, roi_heads = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=head.BBOX_REG_WEIGHTS),
            "num_classes": roi_heads.NUM_CLASSES,
            "cls_agnostic_bbox_reg": head.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": head.SMOOTH_L1_BETA,
            "test_score_thresh": roi_heads.SCORE_THRESH_TEST,
            "test_nms_thresh": roi_heads.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "box_reg_loss_type": head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": head.BBOX_REG_LOSS_WEIGHT},
            "use_fed_loss": head.USE_FED_LOSS,
            "use_sigmoid_ce": head.USE_SIGMOID_CE,
            "get_fed_loss_cls_weights": lambda: _federated_class_weights(cfg),
            "fed_loss_num_classes": head.FED_LOSS_NUM_CLASSES,
        }

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of R boxes to class scores, (R, K + 1), and deltas, (R, K·4) or, class-agnostic, (R, 4)."""
        x = x.flatten(start_dim=1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            predictions: what `forward` returned.
            proposals: per image, the boxes of the predictions in the same order: `proposal_boxes`, `gt_classes` and,
                where the image has objects, `gt_boxes`.

        Returns:
            {"loss_cls": scalar, "loss_box_reg": scalar}
        """
        scores, deltas = predictions
        gt_classes = cat([p.gt_classes for p in proposals]) if proposals else deltas.new_zeros(0, dtype=torch.int64)
        _log_classification_stats(scores, gt_classes)

        if proposals:
            proposal_boxes = cat([p.proposal_boxes.tensor for p in proposals]).detach()
            # an image without objects has background boxes alone, which the box loss does not read
            gt_boxes = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        else:
            proposal_boxes = gt_boxes = deltas.new_zeros((0, len(self.box2box_transform.weights)))

        if self.use_sigmoid_ce:
            loss_cls = self.sigmoid_cross_entropy_loss(scores, gt_classes)
        else:
            loss_cls = cross_entropy(scores, gt_classes, reduction="mean")
        losses = {
            "loss_cls": loss_cls,
            "loss_box_reg": self.box_reg_loss(proposal_boxes, gt_boxes, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def get_fed_loss_classes(
        self, gt_classes: torch.Tensor, num_fed_loss_classes: int, num_classes: int, weight: torch.Tensor
    ) -> torch.Tensor:
        """The classes that the federated loss scores: those of the batch, filled up by a weighted draw of others.

        Args:
            gt_classes: (R,), background included.
            num_fed_loss_classes: at least so many classes are returned.
            num_classes: K.
            weight: (K,), how likely each class is drawn.

        Returns:
            indices of distinct classes, the background among them where the batch holds it.
        """
        present = torch.unique(gt_classes)
        num_missing = num_fed_loss_classes - len(present)
        if num_missing <= 0:
            return present
        chance = present.new_zeros(num_classes + 1, dtype=torch.float32)
        chance[:num_classes] = weight.float()
        chance[present] = 0
        return torch.cat([present, torch.multinomial(chance, num_missing, replacement=False)])

    def sigmoid_cross_entropy_loss(self, pred_class_logits: torch.Tensor, gt_classes: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy of each foreground class, summed over classes, averaged over the R boxes.

        Args:
            pred_class_logits: (R, K + 1); the background's column is not read.
            gt_classes: (R,)
        """
        if pred_class_logits.numel() == 0:
            return pred_class_logits.sum() * 0.0
        logits = pred_class_logits[:, :-1]
        target = F.one_hot(gt_classes, self.num_classes + 1)[:, :-1].to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.use_fed_loss:
            classes = self.get_fed_loss_classes(
                gt_classes, self.fed_loss_num_classes, self.num_classes, self.fed_loss_cls_weights
            )
            scored = loss.new_zeros(self.num_classes + 1)
            scored[classes] = 1
            loss = loss * scored[: self.num_classes]
        return loss.sum() / pred_class_logits.shape[0]

    def box_reg_loss(
        self,
        proposal_boxes: torch.Tensor,
        gt_boxes: torch.Tensor,
        pred_deltas: torch.Tensor,
        gt_classes: torch.Tensor,
    ) -> torch.Tensor:
        """Box regression loss of the foreground boxes, summed, divided by the number of all boxes.

        Dividing by R, not by the number of foreground boxes, gives each foreground box the same say whether its image
        has few or many of them.

        Args:
            proposal_boxes: (R, 4)
            gt_boxes: (R, 4); rows of background are not read.
            pred_deltas: (R, 4) or (R, K·4)
            gt_classes: (R,)
        """
        box_dim = proposal_boxes.shape[1]
        rows = nonzero_tuple((gt_classes >= 0) & (gt_classes < self.num_classes))[0]
        if pred_deltas.shape[1] == box_dim:
            fg_deltas = pred_deltas[rows]
        else:
            fg_deltas = pred_deltas.view(len(pred_deltas), self.num_classes, box_dim)[rows, gt_classes[rows]]
        loss = _dense_box_regression_loss(
            [proposal_boxes[rows]],
            self.box2box_transform,
            [fg_deltas[None]],
            [gt_boxes[rows]],
            torch.ones((1, len(rows)), dtype=torch.bool, device=rows.device),
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return loss / max(gt_classes.numel(), 1.0)

    def inference(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """Detections of each image; see `fast_rcnn_inference`.

        Args:
            predictions: what `forward` returned.
            proposals: per image, the boxes of the predictions in the same order: `proposal_boxes`.
        """
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def predict_boxes_for_gt_classes(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[torch.Tensor, ...] | list[torch.Tensor]:
        """Per image, the (Ri, 4) boxes predicted for the true classes; the proposals carry `gt_classes`.

        A background box takes the last foreground class's prediction.
        """
        if not proposals:
            return []
        _, deltas = predictions
        proposal_boxes = cat([p.proposal_boxes.tensor for p in proposals])
        num_boxes, box_dim = proposal_boxes.shape
        boxes = self.box2box_transform.apply_deltas(deltas, proposal_boxes)
        if boxes.shape[1] > box_dim:
            gt_classes = cat([p.gt_classes for p in proposals]).clamp(0, self.num_classes - 1)
            rows = torch.arange(num_boxes, device=boxes.device)
            boxes = boxes.view(num_boxes, self.num_classes, box_dim)[rows, gt_classes]
        return boxes.split([len(p) for p in proposals])

    def predict_boxes(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[torch.Tensor, ...] | list[torch.Tensor]:
        """Per image, the predicted boxes, (Ri, K·4) or, class-agnostic, (Ri, 4), not clipped to the image."""
        if not proposals:
            return []
        _, deltas = predictions
        boxes = self.box2box_transform.apply_deltas(deltas, cat([p.proposal_boxes.tensor for p in proposals]))
        return boxes.split([len(p) for p in proposals])

    def predict_probs(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> tuple[torch.Tensor, ...]:
        """Per image, the (Ri, K + 1) class probabilities."""
        scores, _ = predictions
        probs = scores.sigmoid() if self.use_sigmoid_ce else F.softmax(scores, dim=-1)
        return probs.split([len(p) for p in proposals])
