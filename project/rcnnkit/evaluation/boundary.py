"""AP of masks by their boundaries: Boundary AP, computed by faster-coco-eval.

Cheng et al., "Boundary IoU: improving object-centric image segmentation evaluation", CVPR 2021,
https://arxiv.org/abs/2103.16562: the IoU of two masks is the smaller one of the masks' and of that of their bands along
the outline, which are `DILATION` of the image's diagonal wide.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from detectron2.utils.logger import create_small_table
from rcnnkit.evaluation.mask_scores import MaskScoreCOCOEvaluator, by_mask_score

DILATION = 0.02  # of the image's diagonal, as in the paper
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
logger = logging.getLogger(__name__)


class BoundaryCOCOEvaluator(MaskScoreCOCOEvaluator):
    """MaskScoreCOCOEvaluator with a further task, "boundary", wherever it evaluates masks."""

    def _eval_predictions(self, predictions: Sequence[dict[str, Any]], img_ids: Sequence[Any] | None = None) -> None:
        # copies, made first: Detectron2 writes the file's categories into what it evaluates
        results = [one for prediction in by_mask_score(predictions) for one in prediction["instances"]]
        super()._eval_predictions(predictions, img_ids)
        if "segm" not in self._results:
            return
        to_contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_contiguous:
            to_file = {contiguous: own for own, contiguous in to_contiguous.items()}
            results = [{**one, "category_id": to_file[one["category_id"]]} for one in results]
        names = self._metadata.get("thing_classes") or ()
        values = boundary_ap(self._coco_api.dataset, results, names, img_ids)
        self._results["boundary"] = values
        summary = {metric: values[metric] for metric in METRICS}
        logger.info("Evaluation results for mask boundaries:\n%s", create_small_table(summary))


def boundary_ap(
    dataset: dict[str, Any],
    results: Sequence[dict[str, Any]],
    class_names: Sequence[str] = (),
    img_ids: Sequence[Any] | None = None,
) -> dict[str, float]:
    """COCO's metrics with the boundary IoU.

    Args:
        dataset: content of a COCO file; it is not changed.
        results: COCO's results with `segmentation` as run lengths, `score`, and the categories of the file.
        class_names: with more than one, the AP of each class is added as `AP-<name>`; in the order of the ids.
        img_ids: evaluate on these images only.

    Returns:
        Percent by metric; NaN for what has no ground truth, and for all where there are no results.
    """
    if not results:
        return dict.fromkeys(METRICS, float("nan"))
    # faster-coco-eval wants numbers for ids
    numbers = {image["id"]: number for number, image in enumerate(dataset["images"], start=1)}
    truth = COCO(
        {
            "images": [{**image, "id": numbers[image["id"]]} for image in dataset["images"]],
            "categories": [dict(category) for category in dataset["categories"]],
            "annotations": [
                {**one, "id": number, "image_id": numbers[one["image_id"]]}
                for number, one in enumerate(dataset["annotations"], start=1)
            ],
        },
        print_function=_silent,
    )
    # without a box, so that the area is the mask's
    kept = ("category_id", "segmentation", "score")
    found = truth.loadRes(
        [{"image_id": numbers[one["image_id"]], **{key: one[key] for key in kept}} for one in results]
    )
    evaluation = COCOeval_faster(
        truth, found, iouType="boundary", print_function=_silent, boundary_dilation_ratio=DILATION
    )
    if img_ids is not None:
        evaluation.params.imgIds = [numbers[one] for one in img_ids]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"]).reshape([int(count) for count in evaluation.eval["counts"]])
    return _metrics(precision, evaluation.params.iouThrs, class_names)


def _metrics(precision: np.ndarray, thresholds: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """Of (thresholds, recalls, categories, areas, limits), -1 where there is no ground truth, at the highest limit."""
    at_limit = precision[..., -1]
    values = {
        "AP": _mean(at_limit[..., 0]),
        "AP50": _mean(at_limit[np.isclose(thresholds, 0.5)][..., 0]),
        "AP75": _mean(at_limit[np.isclose(thresholds, 0.75)][..., 0]),
        **{metric: _mean(at_limit[..., area]) for area, metric in enumerate(METRICS[3:], start=1)},
    }
    if len(class_names) > 1:
        values.update({f"AP-{name}": _mean(at_limit[:, :, k, 0]) for k, name in enumerate(class_names)})
    return values


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else float("nan")


def _silent(*_: Any) -> None:
    pass
