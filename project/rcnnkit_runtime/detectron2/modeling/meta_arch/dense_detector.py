"""What detectors without a second stage share: one head on all feature levels, a prediction at every anchor.

Shape letters: N images, Hi and Wi of level i, A anchors of a cell, R anchors of an image on all levels, K classes.
The input is that of `rcnn.py`.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from detectron2.layers import nonzero_tuple
from detectron2.layers.wrappers import at_most
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.meta_arch.rcnn import NormalizesPixels, _batch_images, _output_size, _to_rgb
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage

_MAX_VISUALIZED_DETECTIONS = 20


def permute_to_N_HWA_K(tensor: torch.Tensor, K: int) -> torch.Tensor:
    """(N, A·K, Hi, Wi) to (N, Hi·Wi·A, K), the order of the anchors."""
    assert tensor.dim() == 4, f"expected (N, A·K, H, W), got {tuple(tensor.shape)}"
    return tensor.unflatten(1, (-1, K)).permute(0, 3, 4, 1, 2).flatten(1, 3)


class DenseDetector(NormalizesPixels):
    """Backbone and head; a subclass adds `forward_training` and `forward_inference`."""

    box2box_transform: Any
    input_format: str

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str] | None = None,
        *,
        pixel_mean: tuple[float, ...],
        pixel_std: tuple[float, ...],
    ) -> None:
        """
        Args:
            backbone: makes the feature maps.
            head: maps the list of feature maps to lists of predictions.
            head_in_features: names of the maps that the head reads; None: all, the finest first.
            pixel_mean: subtracted from each channel.
            pixel_std: divides each channel.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        if head_in_features is None:
            shapes = backbone.output_shape()
            self.head_in_features = sorted(shapes, key=lambda name: shapes[name].stride or 0)
        else:
            self.head_in_features = head_in_features
        self._register_pixel_statistics(pixel_mean, pixel_std)

    def preprocess_image(self, batched_inputs: list[dict[str, torch.Tensor]]) -> ImageList:
        """Normalises, pads and batches the images."""
        return _batch_images(self, batched_inputs)

    def forward(self, batched_inputs: list[dict[str, torch.Tensor]]):
        """In training a dict of losses; in inference per image a dict with ``instances`` in the output resolution."""
        images = self.preprocess_image(batched_inputs)
        maps = self.backbone(images.tensor)
        features = [maps[name] for name in self.head_in_features]
        predictions = self.head(features)
        if self.training:
            assert "instances" in batched_inputs[0], "Instance annotations are missing in training!"
            gt_instances: Any = [x["instances"].to(self.device) for x in batched_inputs]
            return self.forward_training(images, features, predictions, gt_instances)
        return [
            {"instances": detector_postprocess(results, *_output_size(batched_input, image_size))}
            for results, batched_input, image_size in zip(
                self.forward_inference(images, features, predictions), batched_inputs, images.image_sizes
            )
        ]

    def forward_training(self, images: ImageList, features, predictions, gt_instances: list[Instances]):
        """Losses by name."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_training()")

    def forward_inference(self, images: ImageList, features, predictions) -> list[Instances]:
        """Detections of each image in the network's input resolution."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_inference()")

    def _transpose_dense_predictions(
        self, predictions: list[list[torch.Tensor]], dims_per_anchor: list[int]
    ) -> list[list[torch.Tensor]]:
        """For each kind of prediction, its levels (N, A·D, Hi, Wi) as (N, Hi·Wi·A, D)."""
        assert len(predictions) == len(dims_per_anchor), f"{len(predictions)} predictions, {len(dims_per_anchor)} sizes"
        return [
            [permute_to_N_HWA_K(level, size) for level in levels] for levels, size in zip(predictions, dims_per_anchor)
        ]

    def _ema_update(self, name: str, value: float, initial_value: float, momentum: float = 0.9) -> float:
        """Moving average kept in the attribute `name`, which starts at `initial_value`; returns the new average."""
        average = getattr(self, name, initial_value) * momentum + value * (1 - momentum)
        setattr(self, name, average)
        return average

    def _decode_per_level_predictions(
        self,
        anchors: Boxes,
        pred_scores: torch.Tensor,
        pred_deltas: torch.Tensor,
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """The best `topk_candidates` pairs of anchor and class above the threshold, of one level of one image.

        Args:
            anchors: Hi·Wi·A.
            pred_scores: (Hi·Wi·A, K) probabilities.
            pred_deltas: (Hi·Wi·A, 4).

        Returns:
            `pred_boxes`, not clipped, `scores`, `pred_classes`; the best first.
        """
        rows, classes = nonzero_tuple(pred_scores > score_thresh)
        scores, order = pred_scores[rows, classes].topk(at_most(rows.shape[0], topk_candidates))
        rows, classes = rows[order], classes[order]
        boxes = self.box2box_transform.apply_deltas(pred_deltas[rows], anchors.tensor[rows])
        return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)

    def _decode_multi_level_predictions(
        self,
        anchors: list[Boxes],
        pred_scores: list[torch.Tensor],
        pred_deltas: list[torch.Tensor],
        score_thresh: float,
        topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:
        """`_decode_per_level_predictions` of all levels, one after the other."""
        levels = [
            self._decode_per_level_predictions(*level, score_thresh, topk_candidates, image_size)
            for level in zip(anchors, pred_scores, pred_deltas)
        ]
        return Instances.cat(levels) if len(levels) > 1 else levels[0]

    def visualize_training(self, batched_inputs: list[dict], results: list[Instances]) -> None:
        """Puts ground truth above the best detections of the batch's first image into the event storage."""
        from detectron2.utils.visualizer import Visualizer  # drawing libraries load only where someone looks

        assert len(batched_inputs) == len(results), "Cannot visualize inputs and results of different sizes"
        storage = get_event_storage()
        image = _to_rgb(batched_inputs[0]["image"], self.input_format)
        processed = detector_postprocess(results[0], *image.shape[:2])
        found = processed.pred_boxes.tensor[:_MAX_VISUALIZED_DETECTIONS].detach().cpu().numpy()
        truth = batched_inputs[0]["instances"].gt_boxes.tensor.cpu().numpy()
        drawn = [Visualizer(image, None).overlay_instances(boxes=boxes).get_image() for boxes in (truth, found)]
        picture = np.vstack(drawn).transpose(2, 0, 1)
        storage.put_image("Top: GT bounding boxes; Bottom: Highest Scoring Results", picture)
