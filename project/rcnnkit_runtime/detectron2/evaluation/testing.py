"""Printing, checking and flattening of the result dicts `{task: {metric: float}}` that evaluators return."""

from __future__ import annotations

import logging
import math
import pprint
import sys
from collections.abc import Mapping
from typing import Any


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the main metrics of each task in three lines that paste into a spreadsheet.

    Metrics whose name holds a hyphen (`AP-person`, the values of single classes) are left out.

    Args:
        results: `{task: {metric: float}}`; a task may also be a single number.
    """
    assert isinstance(results, Mapping), f"results must be a mapping of tasks to metrics, got {type(results).__name__}"
    logger = logging.getLogger(__name__)
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info(f"copypaste: {task}={metrics}")
            continue
        shown = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info(f"copypaste: Task: {task}")
        logger.info("copypaste: " + ",".join(shown))
        logger.info("copypaste: " + ",".join(f"{value:.4f}" for value in shown.values()))


def verify_results(cfg: Any, results: Mapping[str, Mapping[str, float]]) -> bool:
    """Compare results with `cfg.TEST.EXPECTED_RESULTS`, rows of `[task, metric, value, tolerance]`.

    Returns:
        True where all rows hold (also where there are none). Otherwise the process exits with status 1.
    """
    expected_results = cfg.TEST.EXPECTED_RESULTS
    if not expected_results:
        return True

    logger = logging.getLogger(__name__)
    passed = True
    for task, metric, expected, tolerance in expected_results:
        actual = results[task].get(metric)
        if actual is None or not math.isfinite(actual) or abs(actual - expected) > tolerance:
            passed = False
    if passed:
        logger.info("Results verification passed.")
        return True
    logger.error("Result verification failed!")
    logger.error("Expected Results: " + str(expected_results))
    logger.error("Actual Results: " + pprint.pformat(results))
    sys.exit(1)


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Turn nested dicts into one, the keys of the levels joined by slashes.

    Example: `{"bbox": {"AP": 40.0}}` becomes `{"bbox/AP": 40.0}`.
    """
    flat: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{inner}": number for inner, number in flatten_results_dict(value).items()})
        else:
            flat[key] = value
    return flat
