"""COCO evaluation in C++ (faster-coco-eval) behind the interface of pycocotools."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import numpy as np
from faster_coco_eval.core.faster_eval_api import COCOeval_faster
from pycocotools.cocoeval import COCOeval

logger = logging.getLogger(__name__)

_SHARED_PARAMS = ("imgIds", "catIds", "iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl", "useCats")


def _silent(*_: Any) -> None:
    pass


class _Engine(COCOeval_faster):
    """faster-coco-eval on pycocotools' own annotation and parameter objects."""

    def __init__(self, coco_gt: Any, coco_dt: Any, params: Any):
        # One image and category at a time has few masks: handing them to threads costs more than it gains.
        super().__init__(iouType=params.iouType, print_function=_silent, rle_iou_max_workers=1)
        self.cocoGt = coco_gt
        self.cocoDt = coco_dt
        for name in _SHARED_PARAMS:
            setattr(self.params, name, getattr(params, name))
        if params.iouType == "keypoints":
            self.params.kpt_oks_sigmas = np.asarray(params.kpt_oks_sigmas)


class COCOeval_opt(COCOeval):
    """Drop-in for `pycocotools.cocoeval.COCOeval`: equal `eval` and `stats`, several times as fast.

    `evaluate()` computes the whole result at once; parameters changed between `evaluate()` and `accumulate()` have no
    effect, and `evalImgs` (the matches of single images) is not filled.
    """

    # None: pycocotools itself did the work.
    _fast_result: dict[str, Any] | None

    def evaluate(self) -> None:
        """Match detections with ground truth and accumulate precision and recall."""
        if not _ids_are_integers(self.cocoGt):
            logger.info("Image ids are not integers: evaluating with pycocotools.")
            self._fast_result = None
            super().evaluate()
            return
        tic = time.perf_counter()
        params = self.params
        params.imgIds = [int(image_id) for image_id in np.unique(params.imgIds)]
        if params.useCats:
            params.catIds = [int(category_id) for category_id in np.unique(params.catIds)]
        params.maxDets = sorted(params.maxDets)

        engine = _Engine(self.cocoGt, self.cocoDt, params)
        engine.evaluate()
        self.ious = engine.ious
        self._paramsEval = copy.deepcopy(params)
        self._fast_result = engine.eval
        logger.info(f"COCOeval_opt.evaluate() took {time.perf_counter() - tic:0.2f} seconds.")

    def accumulate(self, p: Any = None) -> None:
        """Publish the accumulated arrays as `self.eval`, in pycocotools' layout.

        `precision` and `scores`: [thresholds, recalls, categories, areas, max_dets]; `recall`: the same without
        recalls; -1 where there is no ground truth.
        """
        if not hasattr(self, "_fast_result"):
            raise RuntimeError("accumulate() needs evaluate() first")
        if self._fast_result is None:
            super().accumulate(p)
            return
        counts = [int(count) for count in self._fast_result["counts"]]
        num_thresholds, num_recalls, *rest = counts
        shape = (num_thresholds, num_recalls, *rest)
        self.eval = {
            "params": self._paramsEval,
            "counts": counts,
            "date": self._fast_result["date"],
            "precision": np.asarray(self._fast_result["precision"]).reshape(shape),
            "recall": np.asarray(self._fast_result["recall"]).reshape((num_thresholds, *rest)),
            "scores": np.asarray(self._fast_result["scores"]).reshape(shape),
        }


def _ids_are_integers(coco: Any) -> bool:
    return all(isinstance(image_id, (int, np.integer)) for image_id in coco.imgs)
