"""What the evaluators of COCO's and LVIS' tasks do alike with predictions: take in, gather, write, measure recall.

The functions that projects replace in the evaluators' modules are arguments here, so that a replacement counts.
"""

from __future__ import annotations

import copy
import itertools
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch

from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.whole_file import write_whole

Prediction = dict[str, Any]


def prediction_of(
    record: dict[str, Any], output: dict[str, Any], device: torch.device, to_json: Callable[..., list[dict[str, Any]]]
) -> Prediction:
    """`image_id` of an input, and of its output `instances` through `to_json` and `proposals` on `device`, if any."""
    prediction: Prediction = {"image_id": record["image_id"]}
    if "instances" in output:
        prediction["instances"] = to_json(output["instances"].to(device), record["image_id"])
    if "proposals" in output:
        prediction["proposals"] = output["proposals"].to(device)
    return prediction


def gathered(predictions: list[Prediction], distributed: bool) -> list[Prediction] | None:
    """The predictions of all processes, None in other processes than the main one; one's own if not distributed."""
    if not distributed:
        return predictions
    comm.synchronize()
    of_processes = comm.gather(predictions, dst=0)
    return list(itertools.chain(*of_processes)) if comm.is_main_process() else None


def save_predictions(output_dir: str, predictions: Sequence[Prediction]) -> None:
    """Write `instances_predictions.pth`."""
    PathManager.mkdirs(output_dir)
    write_whole(os.path.join(output_dir, "instances_predictions.pth"), lambda file: torch.save(predictions, file))


def evaluate_collected(evaluator: Any, **options: Any) -> dict[str, dict[str, float]] | None:
    """The results of what an evaluator has collected, by its `_eval_box_proposals` and `_eval_predictions`.

    Args:
        evaluator: a COCOEvaluator or LVISEvaluator.
        **options: for `_eval_predictions`.

    Returns:
        `evaluator._results`, copied; empty without predictions; None in other processes than the main one.
    """
    predictions = gathered(evaluator._predictions, evaluator._distributed)
    if predictions is None:
        return None
    if len(predictions) == 0:
        evaluator._logger.warning(f"[{type(evaluator).__name__}] Did not receive valid predictions.")
        return {}

    if evaluator._output_dir:
        save_predictions(evaluator._output_dir, predictions)

    evaluator._results = OrderedDict()
    if "proposals" in predictions[0]:
        evaluator._eval_box_proposals(predictions)
    if "instances" in predictions[0]:
        evaluator._eval_predictions(predictions, **options)
    return copy.deepcopy(evaluator._results)


def save_box_proposals(output_dir: str, predictions: Sequence[Prediction]) -> None:
    """Write `box_proposals.pkl`, which MODEL.LOAD_PROPOSALS reads."""
    proposals = [prediction["proposals"] for prediction in predictions]
    content = {
        "boxes": [proposal.proposal_boxes.tensor.numpy() for proposal in proposals],
        "objectness_logits": [proposal.objectness_logits.numpy() for proposal in proposals],
        "ids": [prediction["image_id"] for prediction in predictions],
        "bbox_mode": BoxMode.XYXY_ABS.value,
    }
    write_whole(os.path.join(output_dir, "box_proposals.pkl"), lambda file: pickle.dump(content, file))


def proposal_recalls(
    predictions: Sequence[Prediction], ground_truth: Any, evaluate: Callable[..., dict[str, Any]]
) -> dict[str, float]:
    """`AR@100`, `ARs@100`, … `ARl@1000` in percent; `evaluate` is an evaluator's `_evaluate_box_proposals`."""
    recalls = {}
    for limit in (100, 1000):
        for area, suffix in {"all": "", "small": "s", "medium": "m", "large": "l"}.items():
            stats = evaluate(predictions, ground_truth, area=area, limit=limit)
            recalls[f"AR{suffix}@{limit}"] = float(stats["ar"].item() * 100)
    return recalls
