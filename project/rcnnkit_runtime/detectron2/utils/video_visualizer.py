"""Drawing on the frames of a video: an object keeps its colour from frame to frame."""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from detectron2.structures import Instances
from detectron2.utils.colormap import random_color, random_colors
from detectron2.utils.vis_image import VisImage
from detectron2.utils.visualizer import ColorMode, Visualizer, _create_text_labels

__all__ = ["VideoVisualizer"]

_FRAMES_TO_REMEMBER = 8  # after an object was seen last
_SAME_BOX_IOU = 0.6
_SAME_MASK_IOU = 0.5
_MAX_TRACKED_IDS = 74


class _DetectedInstance:
    """An object of the last frames.

    Attributes:
        label: class index.
        bbox: (4,) XYXY, or None.
        mask_rle: run-length encoding of the mask where there is no box.
        color: RGB in 0..1, None before it has one.
        ttl: frames for which it is still remembered unseen.
    """

    __slots__ = ["bbox", "color", "label", "mask_rle", "ttl"]

    def __init__(self, label: int, bbox: Any, mask_rle: Any, color: Any, ttl: int) -> None:
        self.label = label
        self.bbox = bbox
        self.mask_rle = mask_rle
        self.color = color
        self.ttl = ttl


class VideoVisualizer:
    """Draws predictions on consecutive frames.

    Args:
        metadata: as the Visualizer's.
        instance_mode: IMAGE, or IMAGE_BW for grey surroundings.
    """

    def __init__(self, metadata: Any, instance_mode: ColorMode = ColorMode.IMAGE) -> None:
        self.metadata = metadata
        self._instance_mode = instance_mode
        assert instance_mode in (ColorMode.IMAGE, ColorMode.IMAGE_BW), f"{instance_mode} is not supported for videos"
        self._old_instances: list[_DetectedInstance] = []
        self._max_num_instances = self.metadata.get("max_num_instances", _MAX_TRACKED_IDS)
        self._color_pool = random_colors(self._max_num_instances, rgb=True, maximum=1)
        self._assigned_colors: dict[int, int] = {}  # id → index of its colour, the longest unseen first
        self._color_idx_set = set(range(len(self._color_pool)))

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Instances) -> VisImage:
        """Draw a frame's predictions, each in the colour that its object had before.

        Args:
            frame: (H, W, 3) RGB uint8.
            predictions: on CPU; as the Visualizer's, and optionally ``ID`` (a number per object, from a tracker) or
                ``COLOR`` (RGB in 0..1 per object).
        """
        visualizer = Visualizer(frame, self.metadata)
        if len(predictions) == 0:
            return visualizer.output
        if predictions.has("COLOR"):
            colors = list(predictions.COLOR)
        elif predictions.has("ID"):
            colors = self._assign_colors_by_id(predictions)
        else:
            colors = self._assign_colors(predictions)
        return self._draw(visualizer, predictions, colors)

    def _draw(self, visualizer: Visualizer, predictions: Instances, colors: list[Any]) -> VisImage:
        fields = predictions.get_fields()
        classes = fields["pred_classes"].tolist() if "pred_classes" in fields else None
        labels = _create_text_labels(classes, fields.get("scores"), self.metadata.get("thing_classes"))
        masks = visualizer._convert_masks(fields["pred_masks"]) if "pred_masks" in fields else None
        alpha = 0.5
        if self._instance_mode == ColorMode.IMAGE_BW:
            covered = np.any([mask.mask for mask in masks], axis=0) if masks else None
            visualizer.output.reset_image(visualizer._create_grayscale_image(covered))
            alpha = 0.3
        return visualizer.overlay_instances(
            # a mask shows where the object is; its box would only cover more of the frame
            boxes=None if masks is not None else fields.get("pred_boxes"),
            masks=masks,
            labels=labels,
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=alpha,
        )

    def draw_sem_seg(self, frame: np.ndarray, sem_seg: Any, area_threshold: int | None = None) -> VisImage:
        """Draw a map of classes.

        Args:
            frame: (H, W, 3) RGB uint8.
            sem_seg: (H, W) class indices.
            area_threshold: smaller regions are left out.
        """
        return Visualizer(frame, self.metadata).draw_sem_seg(sem_seg, area_threshold=area_threshold)

    def draw_panoptic_seg_predictions(
        self,
        frame: np.ndarray,
        panoptic_seg: Any,
        segments_info: Any,
        area_threshold: int | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """As `Visualizer.draw_panoptic_seg_predictions`."""
        return Visualizer(frame, self.metadata).draw_panoptic_seg(panoptic_seg, segments_info, area_threshold, alpha)

    def _assign_colors(self, instances: Instances) -> list[np.ndarray]:
        """The colour of the recent object of the same class that overlaps most; a new one where none does."""
        detected = _detected(instances)
        overlap, threshold = _overlaps(self._old_instances, detected)
        for old_index, old in enumerate(self._old_instances):
            for index, instance in enumerate(detected):
                if old.label != instance.label:
                    overlap[old_index, index] = 0
        remembered = set(range(len(self._old_instances)))
        while overlap.size and overlap.max() > threshold:
            old_index, index = divmod(int(overlap.argmax()), overlap.shape[1])
            detected[index].color = self._old_instances[old_index].color
            remembered.discard(old_index)
            overlap[old_index, :] = overlap[:, index] = 0
        for instance in detected:
            if instance.color is None:
                instance.color = random_color(rgb=True, maximum=1)
        unseen = [self._old_instances[index] for index in sorted(remembered)]
        for old in unseen:
            old.ttl -= 1
        self._old_instances = detected + [old for old in unseen if old.ttl > 0]
        return [instance.color for instance in detected]

    def _assign_colors_by_id(self, instances: Instances) -> list[np.ndarray]:
        """A colour per ``ID``; ids that are gone give theirs back, the longest unseen first."""
        ids = [int(track) for track in instances.ID]
        for track in ids:
            if track in self._assigned_colors:
                self._assigned_colors[track] = self._assigned_colors.pop(track)  # seen last
                continue
            if not self._color_idx_set:
                gone = next(iter(self._assigned_colors))
                self._color_idx_set.add(self._assigned_colors.pop(gone))
            self._assigned_colors[track] = self._color_idx_set.pop()
        return [self._color_pool[self._assigned_colors[track]] for track in ids]


def _detected(instances: Instances) -> list[_DetectedInstance]:
    boxes = instances.pred_boxes.tensor.numpy() if instances.has("pred_boxes") else None
    rles: list[Any] = [None] * len(instances)
    if boxes is None and instances.has("pred_masks"):
        rles = [mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in np.asarray(instances.pred_masks)]
    classes = instances.pred_classes.numpy() if instances.has("pred_classes") else np.zeros(len(instances), dtype=int)
    return [
        _DetectedInstance(label, None if boxes is None else boxes[i], rles[i], None, _FRAMES_TO_REMEMBER)
        for i, label in enumerate(classes)
    ]


def _overlaps(old: list[_DetectedInstance], new: list[_DetectedInstance]) -> tuple[np.ndarray, float]:
    """IoU of each old with each new object, (old, new), and the IoU above which two are the same object."""
    if not old or not new:
        return np.zeros((len(old), len(new))), _SAME_BOX_IOU
    crowd = [0] * len(new)
    if all(instance.bbox is not None for instance in [*old, *new]):
        corners = [np.array([instance.bbox for instance in group], dtype=np.float64) for group in (old, new)]
        xywh = [np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1) for boxes in corners]
        return np.array(mask_util.iou(xywh[0], xywh[1], crowd)), _SAME_BOX_IOU
    if all(instance.mask_rle is not None for instance in [*old, *new]):
        rles = [[instance.mask_rle for instance in group] for group in (old, new)]
        return np.array(mask_util.iou(rles[0], rles[1], crowd)), _SAME_MASK_IOU
    return np.zeros((len(old), len(new))), _SAME_BOX_IOU
