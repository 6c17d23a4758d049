"""LVIS metrics: AP of boxes and masks on a federated data set, AR of box proposals."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from pycocotools.coco import COCO

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.lvis import read_lvis_file
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from detectron2.utils.whole_file import write_whole

from .box_proposals import _evaluate_box_proposals as _recall_of_proposals
from .coco_predictions import instances_to_coco_json, to_dataset_categories
from .collected_predictions import evaluate_collected, prediction_of, proposal_recalls, save_box_proposals
from .evaluator import DatasetEvaluator
from .lvis_matching import LVISEvaluation

_MAX_DETS = 300  # LVIS' own limit
_METRICS: dict[str, dict[str, Any]] = {
    "AP": {},
    "AP50": {"threshold": 0.5},
    "AP75": {"threshold": 0.75},
    "APs": {"area": "small"},
    "APm": {"area": "medium"},
    "APl": {"area": "large"},
    "APr": {"frequency": "r"},
    "APc": {"frequency": "c"},
    "APf": {"frequency": "f"},
}


class LVISEvaluator(DatasetEvaluator):
    """Evaluate boxes, masks or box proposals with LVIS' metrics."""

    _results: OrderedDict[str, dict[str, float]]  # of evaluate()

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
    ):
        """
        Args:
            dataset_name: a registered data set whose metadata hold `json_file`, an LVIS file.
            tasks: some of "bbox" and "segm"; by default those that the predictions have.
            distributed: gather the predictions of all processes in the main one; else evaluate one's own.
            output_dir: where to write `instances_predictions.pth` and `lvis_instances_results.json`, or
                `box_proposals.pkl`.
            max_dets_per_image: detections that count in an image, over all categories; default LVIS' 300.
        """
        self._logger = logging.getLogger(__name__)
        if isinstance(tasks, CfgNode):
            self._logger.warning("LVISEvaluator: a config in place of tasks is deprecated; give the arguments by name.")
            tasks = None
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets_per_image = max_dets_per_image
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        self._ground_truth = read_lvis_file(PathManager.get_local_path(self._metadata.json_file))
        # The public test sets come without annotations: then only the result files are written.
        self._do_evaluation = len(self._ground_truth.get("annotations", ())) > 0

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in the outputs of a batch.

        Args:
            inputs: dicts with `image_id`.
            outputs: dicts with `instances` (`pred_boxes`, `scores`, `pred_classes` and optionally `pred_masks`, in
                pixels of the original image) or `proposals`.
        """
        for record, output in zip(inputs, outputs):
            prediction = prediction_of(record, output, self._cpu_device, instances_to_coco_json)
            self._predictions.append(prediction)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Evaluate what was processed since `reset()`.

        Returns:
            `{"bbox": {"AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"}, "segm": ...}` in percent, and
            for proposals `{"box_proposals": {"AR@100", ...}}`. -100 stands for what has no ground truth, as in LVIS'
            own tool; NaN for what has no predictions. None in other processes than the main one.
        """
        return evaluate_collected(self)

    def _tasks_from_predictions(self, predictions: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        """The tasks that predictions (one dict for each object) can be evaluated on."""
        return ("bbox", "segm") if any("segmentation" in prediction for prediction in predictions) else ("bbox",)

    def _eval_predictions(self, predictions: Sequence[dict[str, Any]]) -> None:
        """Evaluate instance predictions and store the metrics of each task in `self._results`."""
        lvis_results = list(itertools.chain(*(prediction["instances"] for prediction in predictions)))
        tasks = self._tasks or self._tasks_from_predictions(lvis_results)
        contiguous_ids = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if contiguous_ids is not None:
            lvis_results = to_dataset_categories(lvis_results, contiguous_ids, self._metadata.name)
        else:  # LVIS counts its categories from 1 without gaps
            lvis_results = [{**result, "category_id": result["category_id"] + 1} for result in lvis_results]

        if self._output_dir:
            path = os.path.join(self._output_dir, "lvis_instances_results.json")
            self._logger.info(f"Writing results to {path}")
            write_whole(path, lambda file: file.write(json.dumps(lvis_results).encode()))
        if not self._do_evaluation:
            self._logger.info(f"{self._metadata.json_file} has no annotations: nothing to compare the results with.")
            return
        for task in sorted(tasks):
            self._results[task] = _evaluate_predictions_on_lvis(
                self._ground_truth,
                lvis_results,
                task,
                max_dets_per_image=self._max_dets_per_image,
                class_names=self._metadata.get("thing_classes"),
            )

    def _eval_box_proposals(self, predictions: Sequence[dict[str, Any]]) -> None:
        """Evaluate box proposals; AR of 100 and 1000 proposals goes to `self._results["box_proposals"]`."""
        if self._output_dir:
            save_box_proposals(self._output_dir, predictions)
        if not self._do_evaluation:
            self._logger.info(f"{self._metadata.json_file} has no annotations: proposals are not evaluated.")
            return
        results = proposal_recalls(predictions, self._ground_truth, _evaluate_box_proposals)
        self._logger.info("Recall of proposals:\n" + create_small_table(results))
        self._results["box_proposals"] = results


def _evaluate_box_proposals(
    dataset_predictions: Sequence[dict[str, Any]],
    lvis_api: dict[str, Any],
    thresholds: torch.Tensor | None = None,
    area: str = "all",
    limit: int | None = None,
) -> dict[str, Any]:
    """Recall of ground-truth boxes, see `box_proposals`; `lvis_api` is the content of an LVIS file."""
    ground_truth = COCO()  # LVIS has no crowds
    for annotation in lvis_api["annotations"]:
        ground_truth.imgToAnns[annotation["image_id"]].append({**annotation, "iscrowd": 0})
    return _recall_of_proposals(dataset_predictions, ground_truth, thresholds=thresholds, area=area, limit=limit)


def _evaluate_predictions_on_lvis(
    lvis_gt: dict[str, Any],
    lvis_results: Sequence[dict[str, Any]],
    iou_type: str,
    max_dets_per_image: int | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """LVIS' metrics in percent.

    Args:
        lvis_gt: the content of an LVIS file.
        lvis_results: in COCO's result format, with the file's category ids.
        iou_type: "bbox" or "segm".
        max_dets_per_image: detections that count in an image; default 300.
        class_names: not used; LVIS reports groups of classes by their frequency.
    """
    logger = logging.getLogger(__name__)
    if len(lvis_results) == 0:
        logger.warning(f"LVIS {iou_type}: the model predicts nothing.")
        return dict.fromkeys(_METRICS, float("nan"))
    limit = _MAX_DETS if max_dets_per_image is None else max_dets_per_image
    evaluation = LVISEvaluation(lvis_gt, lvis_results, iou_type, max_dets=limit)
    values = {name: evaluation.average_precision(**options) for name, options in _METRICS.items()}
    # LVIS' tool marks what has no ground truth by -1
    results = {name: -100.0 if value != value else value * 100 for name, value in values.items()}
    logger.info(f"LVIS {iou_type}, at most {limit} detections per image:\n" + create_small_table(results))
    return results
