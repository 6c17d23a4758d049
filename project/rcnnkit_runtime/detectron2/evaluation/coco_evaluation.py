"""COCO metrics: AP of boxes, masks and keypoints, AR of box proposals.

Metrics: https://cocodataset.org/#detection-eval, file formats: https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from detectron2.utils.whole_file import write_whole

from .box_proposals import _evaluate_box_proposals
from .coco_predictions import instances_to_coco_json, results_for_task, to_dataset_categories
from .collected_predictions import evaluate_collected, prediction_of, proposal_recalls, save_box_proposals
from .evaluator import DatasetEvaluator
from .fast_eval_api import COCOeval_opt

_DEFAULT_MAX_DETS = [1, 10, 100]
_METRICS = {
    "bbox": ["AP", "AP50", "AP75", "APs", "APm", "APl"],
    "segm": ["AP", "AP50", "AP75", "APs", "APm", "APl"],
    "keypoints": ["AP", "AP50", "AP75", "APm", "APl"],
}
_CATEGORY_TABLE_COLUMNS = 6


class COCOEvaluator(DatasetEvaluator):
    """Evaluate instance predictions (boxes, masks, keypoints) or box proposals with COCO's metrics.

    Works on any data set that can be written as COCO JSON.
    """

    _results: OrderedDict[str, dict[str, float]]  # of evaluate()

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | Sequence[int] | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ):
        """
        Args:
            dataset_name: a registered data set. Its metadata hold `json_file` (COCO JSON), or the data set is
                converted into `output_dir`.
            tasks: some of "bbox", "segm", "keypoints"; by default those that the predictions have.
            distributed: gather the predictions of all processes in the main one; else evaluate one's own.
            output_dir: where to write `instances_predictions.pth` (all predictions as a list of dicts) and
                `coco_instances_results.json` (COCO's result format), or `box_proposals.pkl`.
            max_dets_per_image: an upper limit of detections in one image, used as `[1, 10, limit]`, or those three
                numbers. Default 100. Keypoints always use COCO's 20.
            use_fast_impl: evaluate in C++; the numbers are those of pycocotools.
            kpt_oks_sigmas: the sigmas of the object keypoint similarity, one for each keypoint; default COCO's 17.
            allow_cached_coco: take an earlier conversion of the data set in `output_dir`, if any.

        Raises:
            ValueError: the data set has no `json_file` and there is no `output_dir` to convert it into.
        """
        self._logger = logging.getLogger(__name__)
        self._distributed = distributed
        self._output_dir = output_dir
        self._use_fast_impl = use_fast_impl
        self._max_dets_per_image = _max_dets_triple(max_dets_per_image)

        if isinstance(tasks, CfgNode):
            self._logger.warning(
                "COCO Evaluator instantiated using config, this is deprecated behavior."
                " Please pass in explicit arguments instead."
            )
            kpt_oks_sigmas = kpt_oks_sigmas or tasks.TEST.KEYPOINT_OKS_SIGMAS
            tasks = None
        self._tasks = tasks
        self._kpt_oks_sigmas = kpt_oks_sigmas

        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        if not hasattr(self._metadata, "json_file"):
            self._metadata.json_file = self._convert_dataset(dataset_name, allow_cached_coco)
        json_file = PathManager.get_local_path(self._metadata.json_file)
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco_api = COCO(json_file)
        # The public test sets come without annotations: then only the result files are written.
        self._do_evaluation = "annotations" in self._coco_api.dataset

    def _convert_dataset(self, dataset_name: str, allow_cached: bool) -> str:
        if self._output_dir is None:
            raise ValueError(
                f"output_dir must be provided to COCOEvaluator for datasets not in COCO format: {dataset_name!r} has "
                "no json_file in its metadata and is converted into output_dir."
            )
        self._logger.info(f"Trying to convert '{dataset_name}' to COCO format ...")
        PathManager.mkdirs(self._output_dir)
        path = os.path.join(self._output_dir, f"{dataset_name}_coco_format.json")
        convert_to_coco_json(dataset_name, path, allow_cached=allow_cached)
        return path

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take in the outputs of a batch.

        Args:
            inputs: dicts with `image_id`.
            outputs: dicts with `instances` (fields `pred_boxes`, `scores`, `pred_classes` and optionally
                `pred_masks`, `pred_keypoints`, in pixels of the original image) or `proposals`.
        """
        for record, output in zip(inputs, outputs):
            prediction = prediction_of(record, output, self._cpu_device, instances_to_coco_json)
            if len(prediction) > 1:
                self._predictions.append(prediction)

    def evaluate(self, img_ids: Sequence[Any] | None = None) -> dict[str, dict[str, float]]:
        """Evaluate what was processed since `reset()`.

        Args:
            img_ids: evaluate on these images only; default all of the data set.

        Returns:
            `{"bbox": {"AP": ..., "AP50": ..., ...}, "segm": ..., "keypoints": ...}` in percent, NaN for what has no
            ground truth; in other processes than the main one an empty dict.
        """
        with _no_garbage_collection():
            return evaluate_collected(self, img_ids=img_ids) or {}

    def _tasks_from_predictions(self, predictions: Sequence[dict[str, Any]]) -> list[str]:
        """The tasks that COCO results (one dict for each object) can be evaluated on."""
        tasks = {"bbox"}
        for prediction in predictions:
            if "segmentation" in prediction:
                tasks.add("segm")
            if "keypoints" in prediction:
                tasks.add("keypoints")
        return sorted(tasks, key=list(_METRICS).index)

    def _eval_predictions(self, predictions: Sequence[dict[str, Any]], img_ids: Sequence[Any] | None = None) -> None:
        """Evaluate instance predictions and store the metrics of each task in `self._results`."""
        self._logger.info("Preparing results for COCO format ...")
        coco_results = list(itertools.chain(*(prediction["instances"] for prediction in predictions)))
        tasks = self._tasks or self._tasks_from_predictions(coco_results)
        if hasattr(self._metadata, "thing_dataset_id_to_contiguous_id"):
            coco_results = to_dataset_categories(
                coco_results, self._metadata.thing_dataset_id_to_contiguous_id, self._metadata.name
            )

        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            self._logger.info(f"Saving results to {path}")
            write_whole(path, lambda file: file.write(json.dumps(coco_results).encode()))

        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return

        implementation = "unofficial" if self._use_fast_impl else "official"
        self._logger.info(f"Evaluating predictions with {implementation} COCO API...")
        for task in sorted(tasks):
            if task not in _METRICS:
                raise ValueError(f"COCOEvaluator: unknown task {task!r}; tasks are {', '.join(_METRICS)}")
            coco_eval = None
            if len(coco_results) > 0:
                coco_eval = _evaluate_predictions_on_coco(
                    self._coco_api,
                    coco_results,
                    task,
                    kpt_oks_sigmas=self._kpt_oks_sigmas,
                    cocoeval_fn=COCOeval_opt if self._use_fast_impl else COCOeval,
                    img_ids=img_ids,
                    max_dets_per_image=self._max_dets_per_image,
                )
            self._results[task] = self._derive_coco_results(
                coco_eval, task, class_names=self._metadata.get("thing_classes")
            )

    def _eval_box_proposals(self, predictions: Sequence[dict[str, Any]]) -> None:
        """Evaluate box proposals; AR of 100 and 1000 proposals goes to `self._results["box_proposals"]`."""
        if self._output_dir:
            save_box_proposals(self._output_dir, predictions)

        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return

        self._logger.info("Evaluating bbox proposals ...")
        results = proposal_recalls(predictions, self._coco_api, _evaluate_box_proposals)
        self._logger.info("Proposal metrics: \n" + create_small_table(results))
        self._results["box_proposals"] = results

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Take the metrics out of a summarised evaluation and log them.

        Args:
            coco_eval: None where there were no predictions.
            iou_type: "bbox", "segm" or "keypoints".
            class_names: with more than one name, the AP of each class is added as `AP-<name>`.
        """
        metrics = _METRICS[iou_type]
        if coco_eval is None:
            self._logger.warning("No predictions from the model!")
            return {metric: float("nan") for metric in metrics}

        results = {metric: float(stat * 100 if stat >= 0 else "nan") for metric, stat in zip(metrics, coco_eval.stats)}
        self._logger.info(f"Evaluation results for {iou_type}: \n" + create_small_table(results))
        if not all(np.isfinite(value) for value in results.values()):
            self._logger.info("Some metrics cannot be computed and is shown as NaN.")

        if class_names is None or len(class_names) <= 1:
            return results
        per_category = _category_ap(coco_eval.eval["precision"], class_names)
        self._logger.info(f"Per-category {iou_type} AP: \n" + _category_table(per_category))
        results.update({f"AP-{name}": ap for name, ap in per_category})
        return results


class _MaxDetsSummary:
    """`summarize()` for other limits than 100 detections: all metrics but AR@1 and AR@10 use the highest limit."""

    def summarize(self) -> None:
        """Print COCO's 12 lines and fill `stats` in their order."""
        if not self.eval:  # type: ignore[attr-defined]
            raise RuntimeError("summarize() needs accumulate() first")
        first, second, limit = self.params.maxDets  # type: ignore[attr-defined]
        rows: list[tuple[str, float | None, str, int]] = [
            ("precision", None, "all", limit),
            ("precision", 0.5, "all", limit),
            ("precision", 0.75, "all", limit),
            *(("precision", None, area, limit) for area in ("small", "medium", "large")),
            *(("recall", None, "all", max_dets) for max_dets in (first, second, limit)),
            *(("recall", None, area, limit) for area in ("small", "medium", "large")),
        ]
        self.stats = np.array([self._mean_metric(*row) for row in rows])

    def _mean_metric(self, kind: str, threshold: float | None, area: str, max_dets: int) -> float:
        params = self.params  # type: ignore[attr-defined]
        values = self.eval[kind][..., params.areaRngLbl.index(area), params.maxDets.index(max_dets)]  # type: ignore[attr-defined]
        if threshold is not None:
            values = values[np.isclose(params.iouThrs, threshold)]
        values = values[values > -1]
        mean = float(values.mean()) if values.size else -1.0
        title = "Average Precision  (AP)" if kind == "precision" else "Average Recall     (AR)"
        shown = f"{params.iouThrs[0]:0.2f}:{params.iouThrs[-1]:0.2f}" if threshold is None else f"{threshold:0.2f}"
        print(f" {title} @[ IoU={shown:<9} | area={area:>6s} | maxDets={max_dets:>3d} ] = {mean:0.3f}")
        return mean


class COCOevalMaxDets(_MaxDetsSummary, COCOeval):
    """pycocotools' evaluation with a limit of detections per image other than 100."""


class _COCOevalOptMaxDets(_MaxDetsSummary, COCOeval_opt):
    """The fast evaluation with a limit of detections per image other than 100."""


def _evaluate_predictions_on_coco(
    coco_gt: COCO,
    coco_results: list[dict[str, Any]],
    iou_type: str,
    kpt_oks_sigmas: Sequence[float] | None = None,
    cocoeval_fn: Any = COCOeval,
    img_ids: Sequence[Any] | None = None,
    max_dets_per_image: Sequence[int] | None = None,
) -> COCOeval:
    """Evaluate results in COCO's format; the given dicts are not changed.

    Args:
        coco_gt: the ground truth.
        coco_results: one dict for each detection, at least one.
        iou_type: "bbox", "segm" or "keypoints".
        kpt_oks_sigmas: one sigma for each keypoint; default COCO's.
        cocoeval_fn: `COCOeval` or `COCOeval_opt`.
        img_ids: evaluate on these images only.
        max_dets_per_image: three ascending limits; default `[1, 10, 100]`. Not used for keypoints.

    Raises:
        ValueError: results of images or with fields that do not fit the ground truth.
    """
    assert len(coco_results) > 0, "there is nothing to evaluate: coco_results is empty"
    coco_dt = results_for_task(coco_gt, coco_results, iou_type)

    max_dets = list(max_dets_per_image) if max_dets_per_image is not None else _DEFAULT_MAX_DETS
    if iou_type != "keypoints" and max_dets != _DEFAULT_MAX_DETS:
        cocoeval_fn = _COCOevalOptMaxDets if cocoeval_fn is COCOeval_opt else COCOevalMaxDets
    coco_eval = cocoeval_fn(coco_gt, coco_dt, iou_type)
    if iou_type != "keypoints":
        coco_eval.params.maxDets = max_dets
    if img_ids is not None:
        coco_eval.params.imgIds = list(img_ids)
    if iou_type == "keypoints":
        if kpt_oks_sigmas:
            coco_eval.params.kpt_oks_sigmas = np.array(kpt_oks_sigmas)
        _check_keypoint_numbers(coco_gt, coco_results, len(coco_eval.params.kpt_oks_sigmas))

    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval.evaluate()
        coco_eval.accumulate()
    coco_eval.summarize()
    return coco_eval


def _check_keypoint_numbers(coco_gt: COCO, coco_results: Sequence[dict[str, Any]], num_sigmas: int) -> None:
    num_predicted = len(coco_results[0]["keypoints"]) // 3
    num_annotated = next((len(ann["keypoints"]) // 3 for ann in coco_gt.anns.values() if "keypoints" in ann), None)
    if num_annotated is None:
        raise ValueError("[COCOEvaluator] The predictions have keypoints, the annotations have none.")
    if not num_predicted == num_annotated == num_sigmas:
        raise ValueError(
            f"[COCOEvaluator] Prediction contain {num_predicted} keypoints. Ground truth contains {num_annotated} "
            f"keypoints. The length of cfg.TEST.KEYPOINT_OKS_SIGMAS is {num_sigmas}. They have to agree with each "
            "other. For meaning of OKS, please refer to http://cocodataset.org/#keypoints-eval."
        )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Many small dictionaries are made at once: searching them for cycles takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _max_dets_triple(max_dets_per_image: int | Sequence[int] | None) -> list[int]:
    if max_dets_per_image is None:
        return list(_DEFAULT_MAX_DETS)
    if isinstance(max_dets_per_image, int):
        return sorted([1, 10, max_dets_per_image])
    if len(max_dets_per_image) != 3:
        raise ValueError(f"max_dets_per_image must be a number or three numbers, got {list(max_dets_per_image)}")
    return sorted(max_dets_per_image)


def _category_ap(precisions: np.ndarray, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """AP in percent of each class over all areas, at the highest limit of detections; NaN without ground truth.

    Args:
        precisions: [thresholds, recalls, categories, areas, max_dets].
    """
    if len(class_names) != precisions.shape[2]:
        raise ValueError(
            f"thing_classes names {len(class_names)} classes, the annotation file has {precisions.shape[2]} "
            "categories: the metadata do not belong to this json_file"
        )
    per_category = []
    for index, name in enumerate(class_names):
        precision = precisions[:, :, index, 0, -1]
        precision = precision[precision > -1]
        per_category.append((str(name), float(np.mean(precision) * 100) if precision.size else float("nan")))
    return per_category


def _category_table(per_category: Sequence[tuple[str, float]]) -> str:
    cells = list(itertools.chain(*per_category))
    columns = min(_CATEGORY_TABLE_COLUMNS, len(cells))
    rows = itertools.zip_longest(*(cells[start::columns] for start in range(columns)))
    return tabulate(
        rows,
        tablefmt="pipe",
        floatfmt=".3f",
        headers=["category", "AP"] * (columns // 2),
        numalign="left",
    )
