"""The page of `rcnnkit quickstart`, made from files alone: numbers, `metrics.json`, predictions, pictures."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.engine_choice import engine_line
from rcnnkit.evaluation.curves import draw_curves, read_metrics, series
from rcnnkit.evaluation.report import Report, page
from rcnnkit.evaluation.tables import TASK_NAMES, Results, Rows, as_text, class_rows, summary_rows
from rcnnkit.files import write_bytes, write_picture
from rcnnkit.inference.drawing import draw_objects, objects_of_record, objects_of_results, side_by_side

PICTURES = 16
THRESHOLD = 0.5  # score from which a prediction is drawn


def results_tables(cfg: CfgNode, results: Results) -> list[str]:
    """The tables of the page for a terminal."""
    return [as_text(header, rows) for header, rows in _tables(cfg, results)]


def write_page(cfg: CfgNode, results: Results, output: Path) -> Path:
    """Write `index.html` and the pictures it shows; returns its path."""
    training = Path(cfg.OUTPUT_DIR)
    records = read_metrics(training / "metrics.json")
    if records:
        write_bytes(output / "curves.png", draw_curves(records))
    iterations, seconds = series(records, "time")
    numbers = [
        (f"{values['AP']:.1f}", f"AP, {TASK_NAMES[task]}") for task, values in results.items() if task in TASK_NAMES
    ]
    if seconds:
        numbers += [(str(iterations[-1]), "iterations"), (f"{sum(seconds) / len(seconds):.2f} s", "per iteration")]
    report = Report(
        title="rcnnkit quickstart",
        lead=f"A model trained from random weights on {cfg.DATASETS.TRAIN[0]} and evaluated on {cfg.DATASETS.TEST[0]}; "
        + engine_line().split(",", maxsplit=1)[0]
        + ").",
        numbers=numbers,
        tables=_tables(cfg, results),
        curves="curves.png" if records else None,
        pictures=_write_pictures(cfg, training, output),
        legend=f"Truth on the left, predictions with a score of at least {THRESHOLD:g} on the right, score in percent. "
        "Pictures of the validation set at even steps, not chosen.",
        files=_files(training, output),
    )
    index = output / "index.html"
    write_bytes(index, page(report).encode())
    return index


def _tables(cfg: CfgNode, results: Results) -> list[tuple[list[str], Rows]]:
    names = list(MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes)
    return [summary_rows(results), class_rows(results, names)]


def _write_pictures(cfg: CfgNode, training: Path, output: Path) -> list[tuple[str, str]]:
    """Truth and prediction of some pictures side by side; paths below `output`, and captions."""
    name = cfg.DATASETS.TEST[0]
    records, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    predictions = _predictions(training / "inference" / "coco_instances_results.json")
    categories = dict(metadata.thing_dataset_id_to_contiguous_id)
    drawn_keypoints = _classes_with_keypoints(records) if cfg.MODEL.KEYPOINT_ON else []
    pictures = []
    for record in records[:: max(1, len(records) // PICTURES)][:PICTURES]:
        picture = np.asarray(cv2.imread(record["file_name"]))
        found = objects_of_results(
            predictions[record["image_id"]], categories, record["height"], record["width"], THRESHOLD
        )
        truth = objects_of_record(record)
        panels = [
            draw_objects(picture, objects, metadata.thing_classes, keypoint_classes=drawn_keypoints)
            for objects in (truth, found)
        ]
        path = f"pictures/{Path(record['file_name']).stem}.png"
        write_picture(output / path, side_by_side(panels, (f"truth ({len(truth)})", f"prediction ({len(found)})")))
        pictures.append((path, f"{Path(record['file_name']).name}: {len(truth)} objects, {len(found)} found"))
    return pictures


def _classes_with_keypoints(records: list[dict[str, Any]]) -> list[int]:
    annotations = [annotation for record in records for annotation in record["annotations"]]
    return sorted({entry["category_id"] for entry in annotations if any(entry.get("keypoints", [])[2::3])})


def _predictions(path: Path) -> dict[int, list[dict[str, Any]]]:
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in json.loads(path.read_text(encoding="utf-8")):
        by_image[entry["image_id"]].append(entry)
    return by_image


def _files(training: Path, output: Path) -> list[tuple[str, str]]:
    known = (
        ("config.yaml", "every setting of the run"),
        ("log.txt", "what was said"),
        ("metrics.json", "the numbers behind the curves"),
        ("model_final.pth", "the trained weights"),
        ("inference/coco_instances_results.json", "all predictions, COCO's format"),
    )
    return [(os.path.relpath(training / name, output), text) for name, text in known if (training / name).is_file()]
