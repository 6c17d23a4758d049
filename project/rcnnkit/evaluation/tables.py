"""COCO's numbers as tables: one over the tasks, one over the classes; text for a terminal, rows for a page."""

import math
from collections.abc import Mapping

from tabulate import tabulate

TASK_NAMES = {"bbox": "boxes", "segm": "masks", "boundary": "mask boundaries", "keypoints": "keypoints"}
_SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl")

Results = Mapping[str, Mapping[str, float]]  # task → metric → value in percent
Rows = list[list[str]]


def summary_rows(results: Results) -> tuple[list[str], Rows]:
    """Header and one row a task: AP over IoU 0.50…0.95, at 0.50, at 0.75, and for small, medium and large objects."""
    rows = [[name, *(_number(results[task].get(key)) for key in _SUMMARY)] for task, name in _tasks(results)]
    return ["", *_SUMMARY], rows


def class_rows(results: Results, class_names: list[str]) -> tuple[list[str], Rows]:
    """Header and one row a class: AP of each task that tells classes apart."""
    tasks = [(task, name) for task, name in _tasks(results) if any(key.startswith("AP-") for key in results[task])]
    rows = [[label, *(_number(results[task].get(f"AP-{label}")) for task, _ in tasks)] for label in class_names]
    return ["class", *(f"AP, {name}" for _, name in tasks)], rows


def as_text(header: list[str], rows: Rows) -> str:
    """A table for a terminal, numbers to the right."""
    alignment = ["left"] + ["right"] * (len(header) - 1)
    return tabulate(rows, headers=header, tablefmt="simple", colalign=alignment, disable_numparse=True)


def _tasks(results: Results) -> list[tuple[str, str]]:
    return [(task, name) for task, name in TASK_NAMES.items() if results.get(task)]


def _number(value: float | None) -> str:
    """One decimal; a dash where COCO has no number (no object of that kind)."""
    return "–" if value is None or not math.isfinite(value) or value < 0 else f"{value:.1f}"
