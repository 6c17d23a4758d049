"""Objects drawn upon pictures, for reports: outlines, boxes, keypoints and names, enlarged so that they can be read.

Shape letters: H, W height and width of the picture; K keypoints; V vertices.
Pictures are BGR; coordinates are absolute pixels (x, y) of the picture before enlargement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

from detectron2.structures import BoxMode, Instances

# BGR; told apart with the common kinds of colour blindness (Okabe & Ito, https://jfly.uni-koeln.de/color/)
PALETTE = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
    (230, 230, 230),
)
_FILL = 0.35  # opacity of a mask
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHIFT = 4  # fractional bits of coordinates given to OpenCV


@dataclass(frozen=True)
class DrawnObject:
    """What is drawn of one object.

    Attributes:
        category: contiguous class index.
        box: XYXY, absolute pixels.
        score: 0…1, None for truth.
        mask: (H, W) bool, or None.
        keypoints: (K, 3) float: x, y and visibility (truth) or score (prediction), or None. All but those with 0 are
            drawn: nobody labelled them, or the class does not have them.
    """

    category: int
    box: tuple[float, float, float, float]
    score: float | None = None
    mask: np.ndarray | None = None
    keypoints: np.ndarray | None = None


def objects_of_record(record: dict[str, Any]) -> list[DrawnObject]:
    """The truth of one data set record (polygons or RLE)."""
    height, width = record["height"], record["width"]
    objects = []
    for annotation in record.get("annotations", []):
        x0, y0, x1, y1 = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
        mask = None
        if annotation.get("segmentation"):
            mask = _decode(annotation["segmentation"], height, width)
        keypoints = annotation.get("keypoints")
        points = None if not keypoints else np.reshape(np.asarray(keypoints, np.float64), (-1, 3))
        box = (float(x0), float(y0), float(x1), float(y1))
        objects.append(DrawnObject(annotation["category_id"], box, None, mask, points))
    return objects


def objects_of_results(
    results: Sequence[dict[str, Any]], categories: dict[int, int], height: int, width: int, threshold: float = 0.5
) -> list[DrawnObject]:
    """Predictions of one picture in COCO's result format (https://cocodataset.org/#format-results), surest last.

    Args:
        results: entries with category_id, score, and bbox (XYWH), segmentation (RLE) or keypoints.
        categories: COCO's category id → contiguous class index.
        threshold: predictions with a lower score are left out.
    """
    objects = []
    for entry in sorted(results, key=lambda entry: entry["score"]):
        if entry["score"] < threshold:
            continue
        x, y, w, h = entry.get("bbox", (0, 0, 0, 0))
        mask = _decode(entry["segmentation"], height, width) if entry.get("segmentation") else None
        points = None
        if entry.get("keypoints"):
            points = np.reshape(np.asarray(entry["keypoints"], np.float64), (-1, 3)) + (0.5, 0.5, 0)  # pixel centres
        objects.append(
            DrawnObject(categories[entry["category_id"]], (x, y, x + w, y + h), entry["score"], mask, points)
        )
    return objects


def objects_of_instances(instances: Instances, threshold: float = 0.5) -> list[DrawnObject]:
    """Predictions as a model returns them (`pred_boxes`, `scores`, `pred_classes`, and masks or keypoints if any)."""
    fields = instances.to("cpu").get_fields()
    objects = []
    for index in np.argsort(fields["scores"].numpy(), kind="stable"):
        score = float(fields["scores"][index])
        if score < threshold:
            continue
        masks, keypoints = fields.get("pred_masks"), fields.get("pred_keypoints")
        objects.append(
            DrawnObject(
                int(fields["pred_classes"][index]),
                tuple(fields["pred_boxes"].tensor[index].tolist()),
                score,
                None if masks is None else masks[index].numpy().astype(bool),
                None if keypoints is None else keypoints[index].numpy().astype(np.float64),
            )
        )
    return objects


def draw_objects(
    picture: np.ndarray,
    objects: Sequence[DrawnObject],
    class_names: Sequence[str],
    scale: int = 3,
    keypoint_classes: Sequence[int] | None = None,
) -> np.ndarray:
    """The enlarged picture with every object's mask (or box), keypoints and name.

    Args:
        picture: (H, W, 3) uint8 BGR.
        class_names: of each category; an empty one is not written.
        keypoint_classes: class indices whose keypoints are drawn; all by default.

    Returns:
        (H·scale, W·scale, 3) uint8 BGR.
    """
    canvas = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for drawn in objects:
        colour = PALETTE[drawn.category % len(PALETTE)]
        if drawn.mask is not None:
            _draw_mask(canvas, drawn.mask, colour)
        _draw_box(canvas, drawn.box, colour, scale, thin=drawn.mask is not None)
        if drawn.keypoints is not None and (keypoint_classes is None or drawn.category in keypoint_classes):
            _draw_keypoints(canvas, drawn, scale)
    for drawn in objects:  # names last: no object may cover them
        text = class_names[drawn.category] + ("" if drawn.score is None else f" {100 * drawn.score:.0f}")
        if text:
            _draw_label(
                canvas, text, drawn.box[0] * scale, drawn.box[1] * scale, PALETTE[drawn.category % len(PALETTE)]
            )
    return canvas


def side_by_side(panels: Sequence[np.ndarray], titles: Sequence[str], gap: int = 8) -> np.ndarray:
    """Panels of one height next to each other, each under its title, on white."""
    bar = 26
    titled = []
    for panel, title in zip(panels, titles, strict=True):
        head = np.full((bar, panel.shape[1], 3), 255, np.uint8)
        cv2.putText(head, title, (4, 18), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
        titled += [np.concatenate([head, panel]), np.full((bar + panel.shape[0], gap, 3), 255, np.uint8)]
    return np.concatenate(titled[:-1], axis=1)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int, gap: int = 6) -> np.ndarray:
    """Pictures of one size in rows, on white; the last row may be short."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
    return mask_util.decode(segmentation).astype(bool)


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    size = canvas.shape[1::-1]
    inside = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    canvas[inside] = np.rint(canvas[inside] * (1 - _FILL) + np.array(colour) * _FILL).astype(np.uint8)
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if min(canvas.shape[:2]) >= 256:  # a dark seam under the line; in small pictures it would hide the object
        cv2.drawContours(canvas, contours, -1, _INK, 3, cv2.LINE_AA)
    cv2.drawContours(canvas, contours, -1, colour, 1, cv2.LINE_AA)


def _draw_box(canvas: np.ndarray, box: Sequence[float], colour: tuple[int, int, int], scale: int, thin: bool) -> None:
    corners = np.rint(np.array(box) * scale * (1 << _SHIFT)).astype(int).tolist()
    if not thin:
        cv2.rectangle(canvas, tuple(corners[:2]), tuple(corners[2:]), _INK, 4, cv2.LINE_AA, _SHIFT)
    cv2.rectangle(canvas, tuple(corners[:2]), tuple(corners[2:]), colour, 1 if thin else 2, cv2.LINE_AA, _SHIFT)


def _draw_keypoints(canvas: np.ndarray, drawn: DrawnObject, scale: int) -> None:
    """A filled ring for a keypoint that is seen, an open one where truth says that it is hidden."""
    assert drawn.keypoints is not None
    for x, y, visibility in drawn.keypoints.tolist():
        if visibility == 0:
            continue
        centre = (round(x * scale), round(y * scale))
        cv2.circle(canvas, centre, 5, _INK, -1 if drawn.score is not None or visibility == 2 else 1, cv2.LINE_AA)
        if drawn.score is not None or visibility == 2:
            cv2.circle(canvas, centre, 3, _PAPER, -1, cv2.LINE_AA)
        else:
            cv2.circle(canvas, centre, 4, _PAPER, 1, cv2.LINE_AA)


def _draw_label(canvas: np.ndarray, text: str, left: float, top: float, colour: tuple[int, int, int]) -> None:
    (width, height), below = cv2.getTextSize(text, _FONT, 0.4, 1)
    x = int(np.clip(left, 0, max(canvas.shape[1] - width - 4, 0)))
    y = int(np.clip(top - below - 2, height + 3, canvas.shape[0] - below - 1))
    cv2.rectangle(canvas, (x, y - height - 3), (x + width + 3, y + below), colour, -1)
    # Black or white, whichever stands out (luma, ITU-R BT.601).
    luma = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]
    cv2.putText(canvas, text, (x + 2, y - 1), _FONT, 0.4, _INK if luma > 110 else _PAPER, 1, cv2.LINE_AA)
