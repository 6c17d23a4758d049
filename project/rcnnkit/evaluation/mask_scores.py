"""COCO's evaluation where masks have scores of their own beside those of the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.evaluation import COCOEvaluator

MASK_SCORE = "mask_score"


class MaskScoreCOCOEvaluator(COCOEvaluator):
    """COCOEvaluator that ranks masks by the field `mask_scores` of the instances, and boxes and keypoints by `scores`.

    `coco_instances_results.json` then has `mask_score` beside `score`. Without the field, as of Detectron2's heads, it
    is COCOEvaluator.
    """

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        for record, output in zip(inputs, outputs, strict=True):
            super().process([record], [output])
            if "instances" in output and output["instances"].has("mask_scores"):
                scores = output["instances"].mask_scores.tolist()
                for found, score in zip(self._predictions[-1]["instances"], scores, strict=True):
                    found[MASK_SCORE] = score

    def _eval_predictions(self, predictions: Sequence[dict[str, Any]], img_ids: Sequence[Any] | None = None) -> None:
        found = [one for prediction in predictions for one in prediction["instances"]]
        tasks = list(self._tasks or self._tasks_from_predictions(found))
        if "segm" not in tasks or not any(MASK_SCORE in one for one in found):
            super()._eval_predictions(predictions, img_ids)
            return
        chosen = self._tasks
        try:
            self._tasks = ("segm",)
            super()._eval_predictions(by_mask_score(predictions), img_ids)
            # last, because the file keeps the scores of the last
            self._tasks = tuple(task for task in tasks if task != "segm")
            if self._tasks:
                super()._eval_predictions(predictions, img_ids)
        finally:
            self._tasks = chosen
        if "segm" in self._results:
            self._results.move_to_end("segm")


def by_mask_score(predictions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The predictions of each image, copied, with the scores of the masks in place of the boxes'."""
    return [
        {**p, "instances": [{**one, "score": one.get(MASK_SCORE, one["score"])} for one in p["instances"]]}
        for p in predictions
    ]
