"""The numbers of a training run over its iterations, read from `metrics.json`, and a picture of them."""

import io
import json
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

_LOSS_COLOURS = {
    "total_loss": "#222222",
    "loss_cls": "#0072b2",
    "loss_box_reg": "#56b4e9",
    "loss_mask": "#009e73",
    "loss_keypoint": "#cc79a7",
    "loss_rpn_cls": "#d55e00",
    "loss_rpn_loc": "#e69f00",
}
_TASKS = {
    "bbox": ("boxes", "#0072b2"),
    "segm": ("masks", "#009e73"),
    "boundary": ("mask boundaries", "#d55e00"),
    "keypoints": ("keypoints", "#cc79a7"),
}


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of `metrics.json` (one JSON object a line) by iteration; of a resumed run's repeated ones the last.

    A line that was cut when a run was killed is left out.
    """
    records: dict[int, dict[str, float]] = {}
    if not path.is_file():
        return []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            records.setdefault(int(record["iteration"]), {}).update(record)
        except (ValueError, KeyError, TypeError):
            continue
    return [records[iteration] for iteration in sorted(records)]


def series(records: list[dict[str, float]], name: str) -> tuple[list[int], list[float]]:
    """Iterations (from 1) and values of one number, where it was written and is finite."""
    # What is measured after the last step is filed under the iteration that would have followed.
    last = max((int(record["iteration"]) + 1 for record in records if "total_loss" in record), default=None)
    pairs = [(int(record["iteration"]) + 1, record[name]) for record in records if _finite(record.get(name))]
    pairs = [(iteration if last is None else min(iteration, last), value) for iteration, value in pairs]
    return [iteration for iteration, _ in pairs], [value for _, value in pairs]


def draw_curves(records: list[dict[str, float]]) -> bytes:
    """Losses on the left, AP of each task and the learning rate on the right; a PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.9), constrained_layout=True)
    for name, colour in _LOSS_COLOURS.items():
        iterations, values = series(records, name)
        if iterations:
            left.plot(iterations, values, color=colour, linewidth=2.2 if name == "total_loss" else 1.2, label=name)
    left.set(title="losses", xlabel="iteration", ylim=(0, None))
    if left.lines:
        left.legend(fontsize=8, ncols=2)
    for task, (label, colour) in _TASKS.items():
        iterations, values = series(records, f"{task}/AP")
        if iterations:
            right.plot(iterations, values, "o-", color=colour, label=f"AP, {label}")
            right.annotate(f"{values[-1]:.1f}", (iterations[-1], values[-1]), (6, -3), textcoords="offset points")
    right.set(title="validation", xlabel="iteration", ylabel="AP (%)", ylim=(0, 100))
    rate = right.twinx()
    iterations, values = series(records, "lr")
    rate.plot(iterations, values, color="#999999", linewidth=1, linestyle=":", label="learning rate")
    rate.set(ylim=(0, None), ylabel="learning rate")
    handles = [axis.get_legend_handles_labels() for axis in (right, rate)]
    right.legend(handles[0][0] + handles[1][0], handles[0][1] + handles[1][1], fontsize=8, loc="upper left")
    for axis in (left, right):
        axis.grid(alpha=0.25)
        axis.spines["top"].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    return content.getvalue()


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
