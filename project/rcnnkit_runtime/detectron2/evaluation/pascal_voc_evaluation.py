"""Average precision of boxes as in the Pascal VOC challenges (Everingham et al. 2010; kits of 2007 and 2012)."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from detectron2.data import MetadataCatalog
from detectron2.data.datasets.pascal_voc import number_at, read_image_ids, read_voc_xml, text_at
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from .evaluator import DatasetEvaluator

# IoU thresholds in percent; a mean over these is COCO's AP, here with VOC's matching and precision curve.
_THRESHOLDS = range(50, 100, 5)


class PascalVOCDetectionEvaluator(DatasetEvaluator):
    """Evaluate boxes on a data set registered by `register_pascal_voc`.

    The numbers are close to those of the official development kit, whose program they do not come from.
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: registered; its metadata hold `dirname`, `split`, `year` (2007: 11-point AP, 2012: area under
                the curve) and `thing_classes`.
        """
        self._dataset_name = dataset_name
        metadata = MetadataCatalog.get(dataset_name)
        if metadata.year not in (2007, 2012):
            raise AssertionError(f"data set {dataset_name!r}: year {metadata.year} has no metric; 2007 and 2012 have")
        annotations = PathManager.get_local_path(os.path.join(metadata.dirname, "Annotations"))
        self._anno_file_template = os.path.join(annotations, "{}.xml")
        self._image_set_path = os.path.join(metadata.dirname, "ImageSets", "Main", f"{metadata.split}.txt")
        self._class_names = metadata.thing_classes
        self._is_2007 = metadata.year == 2007
        self._cpu_device = torch.device("cpu")
        self._logger = logging.getLogger(__name__)

    def reset(self) -> None:
        self._predictions: dict[int, list[str]] = defaultdict(list)

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in the outputs of a batch as lines of VOC's result files.

        Args:
            inputs: dicts with `image_id`.
            outputs: dicts with `instances` (`pred_boxes`, `scores`, `pred_classes`).
        """
        for record, output in zip(inputs, outputs):
            instances = output["instances"].to(self._cpu_device)
            boxes = instances.pred_boxes.tensor.numpy()
            for box, score, category in zip(boxes, instances.scores.tolist(), instances.pred_classes.tolist()):
                # VOC counts pixels from 1
                corners = f"{box[0] + 1:.1f} {box[1] + 1:.1f} {box[2]:.1f} {box[3]:.1f}"
                self._predictions[category].append(f"{record['image_id']} {score:.3f} {corners}")

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Evaluate what was processed since `reset()`.

        Returns:
            `{"bbox": {"AP", "AP50", "AP75"}}` in percent: means over the classes, AP also over the IoU thresholds 0.5,
            0.55 … 0.95. None in other processes than the main one.
        """
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        lines: dict[int, list[str]] = defaultdict(list)
        for predictions in gathered:
            for category, found in predictions.items():
                lines[category].extend(found)
        self._logger.info(
            f"{self._dataset_name}: Pascal VOC AP, {'11 points' if self._is_2007 else 'area under the curve'}; "
            "computed here, not by the official development kit"
        )
        with tempfile.TemporaryDirectory(prefix="pascal_voc_eval_") as folder:
            template = os.path.join(folder, "{}.txt")
            aps = np.array([self._class_aps(name, lines[k], template) for k, name in enumerate(self._class_names)])
        mean = dict(zip(_THRESHOLDS, aps.mean(axis=0).tolist()))
        result = {"AP": float(np.mean(list(mean.values()))), "AP50": mean[50], "AP75": mean[75]}
        return OrderedDict(bbox=result)

    def _class_aps(self, class_name: str, lines: Iterable[str], template: str) -> list[float]:
        """AP of a class in percent at each threshold."""
        with open(template.format(class_name), "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        return [
            100
            * voc_eval(
                template, self._anno_file_template, self._image_set_path, class_name, percent / 100, self._is_2007
            )[2]
            for percent in _THRESHOLDS
        ]


@cache
def parse_rec(filename: str) -> list[dict[str, Any]]:
    """The objects of a VOC annotation: dicts with `name`, `pose`, `truncated`, `difficult` and `bbox` (4 ints).

    Args:
        filename: of the XML file. Fields that the file leaves out are "Unspecified" or 0.
    """
    objects = []
    for element in read_voc_xml(filename).iter("object"):
        corners = [number_at(element, f"bndbox/{corner}", filename) for corner in ("xmin", "ymin", "xmax", "ymax")]
        objects.append(
            {
                "name": text_at(element, "name", filename),
                "pose": element.findtext("pose", "Unspecified"),
                "truncated": int(element.findtext("truncated") or 0),
                "difficult": int(element.findtext("difficult") or 0),
                "bbox": [int(corner) for corner in corners],
            }
        )
    return objects


def voc_ap(rec: np.ndarray, prec: np.ndarray, use_07_metric: bool = False) -> float:
    """Average precision of a curve.

    Args:
        rec: [N] recall of the N best detections, ascending.
        prec: [N] their precision.
        use_07_metric: the mean of the best precision at recall 0, 0.1 … 1 or above (2007); else the area under the
            curve in which each precision is the best at its recall or above (2010 and later).
    """
    recall = np.asarray(rec, dtype=np.float64)
    # best precision from each detection on; 0 beyond the last one
    best = np.append(np.maximum.accumulate(np.asarray(prec, dtype=np.float64)[::-1])[::-1], 0.0)
    if use_07_metric:
        # multiples of the float 0.1, as in Detectron2: three of them are a rounding error above 0.3, 0.6 and 0.7
        points = np.arange(11) * 0.1
        return float(best[np.searchsorted(recall, points)].mean())
    steps = np.diff(recall, prepend=0.0)
    return float((steps * best[:-1]).sum())


def voc_eval(
    detpath: str,
    annopath: str,
    imagesetfile: str,
    classname: str,
    ovthresh: float = 0.5,
    use_07_metric: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Precision and recall of one class.

    Detections are taken by falling score. One hits if the object that it overlaps most, of its image and class, has an
    IoU above the threshold and no hit yet; it counts neither way if that object is difficult; else it is a false alarm.
    Boxes include their last pixel.

    Args:
        detpath: result file, "{}" stands for the class; lines "image score xmin ymin xmax ymax".
        annopath: annotation file, "{}" stands for the image.
        imagesetfile: the list of images.
        classname: the class.
        ovthresh: IoU threshold, exclusive.
        use_07_metric: see `voc_ap`.

    Returns:
        Recall [N], precision [N] and average precision in [0, 1].
    """
    boxes_of: dict[str, np.ndarray] = {}
    difficult_of: dict[str, np.ndarray] = {}
    for image in read_image_ids(imagesetfile):
        objects = [one for one in parse_rec(annopath.format(image)) if one["name"] == classname]
        boxes_of[image] = np.array([one["bbox"] for one in objects], dtype=np.float64).reshape(-1, 4)
        difficult_of[image] = np.array([one["difficult"] for one in objects], dtype=bool)
    num_objects = sum(int((~difficult).sum()) for difficult in difficult_of.values())

    with open(detpath.format(classname), encoding="utf-8") as file:
        rows = [line.split() for line in file if line.strip()]
    order = np.argsort([-float(row[1]) for row in rows])  # numpy's default order of equal scores, as in Detectron2
    rows = [rows[i] for i in order]
    taken: set[tuple[str, int]] = set()
    hits, misses = np.zeros(len(rows)), np.zeros(len(rows))
    for index, (image, _, *corners) in enumerate(rows):
        if image not in boxes_of:
            raise ValueError(f"{detpath.format(classname)}: image {image!r} is not in {imagesetfile}")
        overlaps = _inclusive_iou(np.array(corners, dtype=np.float64), boxes_of[image])
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] <= ovthresh:
            misses[index] = 1
        elif difficult_of[image][best]:
            continue
        elif (image, best) in taken:
            misses[index] = 1
        else:
            taken.add((image, best))
            hits[index] = 1
    hits, misses = hits.cumsum(), misses.cumsum()
    recall = hits / max(num_objects, 1)
    precision = hits / np.maximum(hits + misses, np.finfo(np.float64).eps)
    return recall, precision, voc_ap(recall, precision, use_07_metric)


def _inclusive_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box [4] and boxes [M, 4] in pixel indices: both corners belong to the box."""

    def area(corners: np.ndarray) -> np.ndarray:
        return (corners[..., 2:] - corners[..., :2] + 1.0).prod(axis=-1)

    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.maximum(high - low + 1.0, 0.0).prod(axis=1)
    return common / (area(box) + area(others) - common)
