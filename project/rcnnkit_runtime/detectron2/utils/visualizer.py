"""Draw data set records and predictions on images.

Shapes and names: N objects, K keypoints, H x W image; boxes are XYXY in pixels, colours RGB in [0, 1] or any form that
matplotlib reads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import matplotlib.colors as mplc
import numpy as np
import torch

from detectron2.data import MetadataCatalog
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks
from detectron2.utils.file_io import PathManager

from .colormap import random_color
from .generic_mask import GenericMask
from .label_placement import place_label
from .shape_drawing import ShapeDrawing
from .vis_image import VisImage

__all__ = ["ColorMode", "VisImage", "Visualizer"]

logger = logging.getLogger(__name__)

_SMALL_OBJECT_AREA_THRESH = 1000
_OFF_WHITE = (1.0, 1.0, 240.0 / 255)
_BLACK = (0, 0, 0)
_RED = (1.0, 0, 0)
_KEYPOINT_THRESHOLD = 0.05


@unique
class ColorMode(Enum):
    """How colours are chosen for instances."""

    IMAGE = 0
    """A random colour for each instance."""
    SEGMENTATION = 1
    """Instances of a class have similar colours (metadata.thing_colors), masks are more opaque."""
    IMAGE_BW = 2
    """As IMAGE, with the image grey where there is no mask."""


def _create_text_labels(
    classes: Sequence[int] | None,
    scores: Any | None,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[int] | None = None,
) -> list[str] | None:
    """Labels such as "person 95%" and "person|crowd"; None where there is neither class nor score."""
    labels = None
    if classes is not None:
        labels = [class_names[index] if class_names else str(index) for index in classes]
    if scores is not None:
        percents = [f"{score * 100:.0f}%" for score in scores]
        labels = percents if labels is None else [f"{label} {percent}" for label, percent in zip(labels, percents)]
    if labels is not None and is_crowd is not None:
        labels = [f"{label}|crowd" if crowd else label for label, crowd in zip(labels, is_crowd)]
    return labels


class Visualizer(ShapeDrawing):
    """Draws on one image. Each method draws and returns the `VisImage`, so far as drawn.

    Single shapes (`draw_text`, `draw_box`, `draw_polygon`, ...) and whole sets (`overlay_instances`,
    `draw_instance_predictions`, `draw_dataset_dict`) can be mixed.
    """

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ):
        """
        Args:
            img_rgb: [H, W, 3], values in [0, 255].
            metadata: of the data set: `thing_classes`, `thing_colors`, `keypoint_names`, `keypoint_connection_rules`.
            scale: the output is so much larger.
            instance_mode: how colours are chosen.
            font_size_scale: texts are so much larger than what suits the image.
        """
        self.img = np.clip(np.asarray(img_rgb), 0, 255).astype(np.uint8)
        self.metadata = MetadataCatalog.get("__nonexist__") if metadata is None else metadata
        self.output = VisImage(self.img, scale=scale)
        self.cpu_device = torch.device("cpu")
        # Points, not pixels of the image: a larger output needs no larger letters beyond the minimum.
        side = np.sqrt(self.output.height * self.output.width)
        self._default_font_size = max(side // 90, 10 // scale) * font_size_scale
        self._instance_mode = instance_mode
        self.keypoint_threshold = _KEYPOINT_THRESHOLD
        self._placed_labels: list[tuple[float, float, float, float]] = []

    # ---------------------------------------------------------------- whole sets

    def draw_instance_predictions(self, predictions: Instances, jittering: bool = True) -> VisImage:
        """Draw the instances that a model predicts for this image.

        Args:
            predictions: on CPU, with some of `pred_boxes`, `pred_classes`, `scores`, `pred_masks`, `pred_keypoints`.
            jittering: in SEGMENTATION mode, vary the colours of the instances of a class.
        """
        fields = predictions.get_fields()
        classes = fields["pred_classes"].tolist() if "pred_classes" in fields else None
        labels = _create_text_labels(classes, fields.get("scores"), self.metadata.get("thing_classes"))
        masks = self._convert_masks(fields["pred_masks"]) if "pred_masks" in fields else None

        colors, alpha = None, 0.5
        if self._instance_mode == ColorMode.SEGMENTATION and classes is not None and self.metadata.get("thing_colors"):
            colors, alpha = self._class_colors(classes, jittering), 0.8
        if self._instance_mode == ColorMode.IMAGE_BW:
            covered = np.any([mask.mask for mask in masks], axis=0) if masks else None
            self.output.reset_image(self._create_grayscale_image(covered))
            alpha = 0.3
        return self.overlay_instances(
            masks=masks,
            boxes=fields.get("pred_boxes"),
            labels=labels,
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=alpha,
        )

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """Draw the annotations of one record in the standard data set format (boxes, polygons or RLE, keypoints)."""
        annotations = dic.get("annotations") or []
        if annotations:
            self._draw_annotations(annotations)
        sem_seg = dic.get("sem_seg")
        if sem_seg is None and "sem_seg_file_name" in dic:
            import cv2  # only this rare path reads an image

            with PathManager.open(dic["sem_seg_file_name"], "rb") as file:
                sem_seg = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if sem_seg is not None:
            self.draw_sem_seg(sem_seg, area_threshold=0, alpha=0.5)
        if "pan_seg" in dic or "pan_seg_file_name" in dic:
            self.draw_panoptic_seg(dic.get("pan_seg"), dic.get("segments_info"))
        return self.output

    def _draw_annotations(self, annotations: Sequence[dict[str, Any]]) -> None:
        masks = keypoints = boxes = None
        if any("segmentation" in annotation for annotation in annotations):
            masks = [annotation.get("segmentation") or [] for annotation in annotations]
        if any("keypoints" in annotation for annotation in annotations):
            width = max(len(annotation.get("keypoints", ())) for annotation in annotations)
            absent = [0.0] * width
            keypoints = np.array([annotation.get("keypoints", absent) for annotation in annotations], dtype=np.float64)
            keypoints = keypoints.reshape(len(annotations), -1, 3)
        if all("bbox" in annotation for annotation in annotations):
            boxes = [
                BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
                for annotation in annotations
            ]
        classes = [annotation["category_id"] for annotation in annotations]
        colors = None
        if self._instance_mode == ColorMode.SEGMENTATION and self.metadata.get("thing_colors"):
            colors = self._class_colors(classes, jittering=True)
        labels = _create_text_labels(
            classes,
            scores=None,
            class_names=self.metadata.get("thing_classes"),
            is_crowd=[annotation.get("iscrowd", 0) for annotation in annotations],
        )
        self.overlay_instances(labels=labels, boxes=boxes, masks=masks, keypoints=keypoints, assigned_colors=colors)

    def draw_sem_seg(
        self,
        sem_seg: Any,
        area_threshold: int | None = None,
        alpha: float = 0.8,
        draw_text: bool = True,
        edge_color: Any = _OFF_WHITE,
    ) -> VisImage:
        """Draw a map [H, W] of class numbers; classes outside `metadata.stuff_classes` are left out."""
        sem_seg = np.asarray(torch.as_tensor(sem_seg).cpu())
        names = self.metadata.stuff_classes
        palette = self.metadata.get("stuff_colors")
        labels, areas = np.unique(sem_seg, return_counts=True)
        for label in labels[np.argsort(-areas)]:
            if label >= len(names) or label < 0:
                continue
            color = np.array(palette[label]) / 255 if palette else random_color(rgb=True, maximum=1)
            self.draw_binary_mask(
                (sem_seg == label).astype(np.uint8),
                color=color,
                edge_color=edge_color,
                text=names[label] if draw_text else None,
                alpha=alpha,
                area_threshold=area_threshold,
            )
        return self.output

    def draw_panoptic_seg(
        self, panoptic_seg: Any, segments_info: Any, area_threshold: int | None = None, alpha: float = 0.7
    ) -> VisImage:
        """Not in this engine."""
        raise NotImplementedError("panoptic segmentation is not drawn by the built-in engine")

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Any] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw N objects, the small ones on top.

        Args:
            boxes: `Boxes` or array [N, 4].
            labels: one text for each object.
            masks: `BitMasks`, `PolygonMasks`, array [N, H, W], or a list of anything that `GenericMask` takes.
            keypoints: `Keypoints` or array [N, K, 3] of (x, y, visibility or score).
            assigned_colors: one colour for each object; default random ones.
            alpha: opacity of the masks.

        Raises:
            ValueError: the arguments have different lengths.
        """
        boxes = None if boxes is None else self._convert_boxes(boxes)
        masks = None if masks is None else self._convert_masks(masks)
        keypoints = None if keypoints is None else self._convert_keypoints(keypoints)
        given = {"boxes": boxes, "masks": masks, "keypoints": keypoints, "labels": labels, "colors": assigned_colors}
        lengths = {name: len(value) for name, value in given.items() if value is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"overlay_instances: arguments of different lengths: {lengths}")
        number = next(iter(lengths.values()), 0)
        if number == 0:
            return self.output

        colors = assigned_colors or [random_color(rgb=True, maximum=1) for _ in range(number)]
        extents = _extents(boxes, masks, keypoints)
        areas = (extents[:, 2:] - extents[:, :2]).prod(axis=1)
        order = np.argsort(-areas, kind="stable")
        for index in order:
            if masks is not None:
                self._draw_mask(masks[index], colors[index], alpha)
            if boxes is not None:
                self.draw_box(boxes[index], edge_color=colors[index])
        for index in order if keypoints is not None else ():
            self.draw_and_connect_keypoints(keypoints[index])
        # Texts come last: a label under a later object's mask could not be read.
        texts = labels or ()
        for index in order if texts else ():
            self._draw_label(texts[index], extents[index], colors[index], None if masks is None else masks[index])
        return self.output

    def overlay_rotated_instances(self, boxes: Any = None, labels: Any = None, assigned_colors: Any = None) -> VisImage:
        """Not in this engine."""
        raise NotImplementedError("rotated boxes are not drawn by the built-in engine")

    def draw_rotated_box_with_label(
        self, rotated_box: Any, alpha: float = 0.5, edge_color: Any = "g", line_style: str = "-", label: Any = None
    ) -> VisImage:
        """Not in this engine."""
        raise NotImplementedError("rotated boxes are not drawn by the built-in engine")

    def _draw_mask(self, mask: GenericMask, color: Any, alpha: float) -> None:
        if mask.has_holes:
            self.draw_binary_mask(mask.mask, color=color, alpha=alpha, area_threshold=0)
            return
        for polygon in mask.polygons:
            if len(polygon) >= 6:
                self.draw_polygon(polygon.reshape(-1, 2), color, alpha=alpha)

    def _draw_label(self, text: str, extent: np.ndarray, color: Any, mask: GenericMask | None) -> None:
        """Write an object's label at its box where no other label is yet, in smaller letters for small objects."""
        x0, y0, x1, y1 = extent
        if x1 <= x0 and y1 <= y0 and mask is not None:
            return  # an empty mask has no place
        side = np.sqrt(self.output.height * self.output.width)
        # From 65 % to full size while the object grows from 2 % to 15 % of the image.
        font_size = self._default_font_size * np.interp((y1 - y0) / side, [0.02, 0.15], [0.65, 1.0])
        line = font_size * self.output.dpi / 72 * 1.5
        label_size = (0.42 * line * len(text), line)
        small = (x1 - x0) * (y1 - y0) < _SMALL_OBJECT_AREA_THRESH
        image_size = (self.output.width, self.output.height)
        left, top = place_label(extent.tolist(), label_size, image_size, self._placed_labels, avoid_inside=small)
        self._placed_labels.append((left, top, left + label_size[0], top + label_size[1]))
        self.draw_text(
            text,
            (left, top),
            color=self._change_color_brightness(color, brightness_factor=0.7),
            horizontal_alignment="left",
            font_size=font_size,
        )

    # ---------------------------------------------------------------- keypoints

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw the visible keypoints of one object and the lines between them.

        Args:
            keypoints: [K, 3] of (x, y, visibility or score); those at or below `keypoint_threshold` are not drawn.
                Lines follow `metadata.keypoint_connection_rules`, triples of two names and a colour in 0..255.
        """
        names = self.metadata.get("keypoint_names")
        visible: dict[str, tuple[float, float]] = {}
        for index, (x, y, score) in enumerate(np.asarray(keypoints, dtype=np.float64)):
            if score <= self.keypoint_threshold:
                continue
            self.draw_circle((x, y), color=_RED)
            if names:
                visible[names[index]] = (x, y)

        for first, second, color in self.metadata.get("keypoint_connection_rules") or ():
            if first in visible and second in visible:
                self._connect(visible[first], visible[second], tuple(channel / 255.0 for channel in color))
        self._draw_spine(visible)
        return self.output

    def _draw_spine(self, visible: dict[str, tuple[float, float]]) -> None:
        """COCO's persons have no neck: join the nose to the middle of the shoulders, and that to that of the hips."""

        def middle(part: str) -> tuple[float, float] | None:
            left, right = visible.get(f"left_{part}"), visible.get(f"right_{part}")
            if left is None or right is None:
                return None
            return ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)

        shoulders, hips, nose = middle("shoulder"), middle("hip"), visible.get("nose")
        for end in (nose, hips):
            if shoulders is not None and end is not None:
                self._connect(shoulders, end, _RED)

    def _connect(self, start: tuple[float, float], end: tuple[float, float], color: Any) -> None:
        self.draw_line([start[0], end[0]], [start[1], end[1]], color=color)

    # ---------------------------------------------------------------- colours and conversions

    def _class_colors(self, classes: Sequence[int], jittering: bool) -> list[tuple[float, float, float]]:
        colors = [tuple(channel / 255 for channel in self.metadata.thing_colors[index]) for index in classes]
        return [self._jitter(color) for color in colors] if jittering else colors

    def _jitter(self, color: Any) -> tuple[float, float, float]:
        """A colour near `color`: each channel moved by at most 0.2."""
        moved = np.asarray(mplc.to_rgb(color)) + np.random.default_rng().uniform(-0.2, 0.2, size=3)
        return tuple(np.clip(moved, 0.0, 1.0))

    def _create_grayscale_image(self, mask: np.ndarray | None = None) -> np.ndarray:
        """The image in grey, but in colour where `mask` [H, W] is set."""
        gray = np.repeat(self.img.astype(np.float32).mean(axis=2, keepdims=True), 3, axis=2)
        if mask is not None:
            covered = np.asarray(mask) > 0
            gray[covered] = self.img[covered]
        return gray

    def _convert_boxes(self, boxes: Any) -> np.ndarray:
        """`Boxes` or anything like an array to a float array [N, 4]."""
        if isinstance(boxes, Boxes):
            boxes = boxes.tensor
        return _to_numpy(boxes).reshape(-1, 4)

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask]:
        """Masks in any of the forms that `overlay_instances` takes to `GenericMask`s."""
        if isinstance(masks_or_polygons, PolygonMasks):
            masks_or_polygons = masks_or_polygons.polygons
        if isinstance(masks_or_polygons, BitMasks):
            masks_or_polygons = masks_or_polygons.tensor
        if isinstance(masks_or_polygons, torch.Tensor):
            masks_or_polygons = masks_or_polygons.detach().cpu().numpy()
        return [
            mask if isinstance(mask, GenericMask) else GenericMask(mask, self.output.height, self.output.width)
            for mask in masks_or_polygons
        ]

    def _convert_keypoints(self, keypoints: Any) -> np.ndarray:
        """`Keypoints` or anything like an array to a float array [N, K, 3]."""
        if isinstance(keypoints, Keypoints):
            keypoints = keypoints.tensor
        return _to_numpy(keypoints)

    def get_output(self) -> VisImage:
        """What was drawn so far."""
        return self.output


def _to_numpy(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)


def _extents(boxes: np.ndarray | None, masks: list[GenericMask] | None, keypoints: np.ndarray | None) -> np.ndarray:
    """XYXY boxes [N, 4] around the objects, from the first of boxes, masks, keypoints that is given."""
    if boxes is not None:
        return boxes
    if masks is not None:
        return np.array([mask.bbox() for mask in masks])
    if keypoints is None:
        return np.zeros((0, 4))
    extents = np.zeros((len(keypoints), 4))
    for index, points in enumerate(keypoints):
        seen = points[points[:, 2] > 0, :2]
        if len(seen):
            extents[index] = [*seen.min(axis=0), *seen.max(axis=0)]
    return extents
