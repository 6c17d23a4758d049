"""Medians, ratios and the table. A ratio above 1: the built-in engine is so many times as fast as the peer."""

import math
from statistics import median

from bench.peers import TITLES

ROWS = {
    "inference": "Mask R-CNN R50-FPN, inference, one picture",
    "training": "Mask R-CNN R50-FPN, training step, two pictures",
    "mapper": "training mapper",
    "evaluation": "COCO metrics, boxes and masks",
    "registration": "registering a COCO JSON",
    "check": "checking JPEG images, `rcnnkit data check`",
    "workers": "training loader, four processes, small pictures",
}


def summarize(measured: dict[str, dict]) -> list[dict]:
    """One row per kind of work and peer: median, least and greatest seconds, ratio to the built-in engine.

    The ratio is the median of the rounds' ratios: the two runs of a round are neighbours in time, so what else the
    machine does falls on both.
    """
    rows = []
    for work, peers in measured.items():
        own = peers["builtin"]["seconds"]
        for peer, result in peers.items():
            seconds = result["seconds"]
            row = {
                "work": work,
                "peer": peer,
                "rounds": len(seconds),
                "median_s": median(seconds),
                "min_s": min(seconds),
                "max_s": max(seconds),
                "builtin_is_times_as_fast": median(theirs / ours for theirs, ours in zip(seconds, own)),
            }
            if "pictures" in result:
                row["pictures_per_s"] = result["pictures"] / row["median_s"]
            rows.append(row)
    return rows


def largest_difference(evaluation: dict[str, dict]) -> float:
    """Largest difference of any metric from pycocotools'; infinite where names or undefined values differ."""
    reference = evaluation["pycocotools"]["numbers"]
    largest = 0.0
    for result in evaluation.values():
        for name, value in reference.items():
            other = result["numbers"].get(name, math.inf)
            if not (math.isnan(value) and math.isnan(other)):
                difference = abs(value - other)
                largest = max(largest, math.inf if math.isnan(difference) else difference)
    return largest


def check(measured: dict[str, dict], tolerance: float) -> list[str]:
    """What makes the numbers incomparable, in sentences; empty when all is well."""
    wrong = []
    for peer, facts in measured["inference"].items():
        if facts["detections_in_mask_head"] != 100:
            wrong.append(f"{TITLES[peer]}: {facts['detections_in_mask_head']} detections reach the mask head, not 100")
        if facts["pairs_above_threshold"] > 2000:
            wrong.append(f"{TITLES[peer]}: {facts['pairs_above_threshold']} (box, class) pairs enter suppression")
    difference = largest_difference(measured["evaluation"])
    if not difference <= tolerance:
        wrong.append(f"COCO metrics differ by {difference} from those of pycocotools")
    return wrong


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def table(rows: list[dict]) -> str:
    """Markdown, one line per kind of work and peer."""
    lines = [
        "| work | peer | median | least … greatest | built-in engine is |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        speed = f" ({row['pictures_per_s']:.1f} pictures/s)" if "pictures_per_s" in row else ""
        ratio = "" if row["peer"] == "builtin" else f"{row['builtin_is_times_as_fast']:.2f} × as fast"
        spread = f"{_seconds(row['min_s'])} … {_seconds(row['max_s'])}"
        cells = [ROWS[row["work"]], TITLES[row["peer"]], _seconds(row["median_s"]) + speed, spread, ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def details(result: dict) -> str:
    """What was measured and on what, as Markdown list items."""
    sizes, inference = result["sizes"], result["facts"]["inference"]
    counts = "; ".join(
        f"{TITLES[peer]} {facts['boxes_scored']} boxes scored, {facts['pairs_above_threshold']} (box, class) pairs "
        f"above 0.05, {facts['detections_in_mask_head']} detections in the mask head"
        for peer, facts in inference.items()
    )
    model, evaluation = sizes["model"], sizes["evaluation"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(result["versions"].items()))
    return "\n".join(
        [
            f"- Machine: {result['machine']}; {result['threads']} thread(s) for every peer.",
            f"- Versions: {versions}.",
            f"- One process per peer, asked in turn (A B C A B C …), one at a time, after a warm-up run; "
            f"{sizes['rounds']} rounds ({evaluation['rounds']} of COCO metrics). "
            "A ratio is the median of the rounds' ratios.",
            f"- Models: 80 classes, {model['height']} × {model['width']} pixels, the same weights, pictures and truth, "
            f"strides in the 3×3 convolutions, float32. {counts[:1].upper()}{counts[1:]}.",
            f"- Training: forward, backward and SGD step, {model['objects']} objects with outlines per picture.",
            f"- Mapper: {sizes['mapper']['pictures']} pictures of `{result['mapper_source']}`, default training "
            "augmentation, polygon masks, one process.",
            f"- COCO metrics: {evaluation['images']} pictures with {evaluation['objects']} objects and "
            f"{evaluation['detections']} detections each; largest difference of any number from pycocotools: "
            f"{result['largest_metric_difference']:.1g}.",
            _data_details(result),
        ]
    )


def _data_details(result: dict) -> str:
    sizes = result["sizes"]["data"]
    checked = result["facts"]["check"]["builtin"]["pictures_per_core_s"]
    growth = result["facts"]["workers"]["builtin"]["largest_growth_mb"]
    return (
        f"- Data: a COCO JSON of {sizes['images']} images and {sizes['objects']} polygons; beside it pycocotools "
        "parses and indexes the same file. The check looks at "
        f"{sizes['pictures']} JPEG files of 640 × 480, {checked:.0f} a second and core. "
        "Of four loader processes over the large data set, the memory that a process has for itself "
        f"grows by at most {growth:.0f} MB while each maps {sizes['samples']} pictures."
    )


def document(result: dict) -> str:
    """The page for people: command, table, conditions."""
    command = f"```\n{result['command']}\n```"
    introduction = (
        "Times depend on the machine; the ratios, taken from runs that alternate, are what carries over. Written by "
        "`tools/bench.py --docs docs/benchmarks.md`."
    )
    return "\n\n".join(["# Benchmarks", introduction, command, table(result["rows"]), details(result)]) + "\n"
