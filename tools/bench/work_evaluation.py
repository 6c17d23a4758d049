"""COCO metrics of boxes and masks over a made set of detections: COCOEvaluator of either engine, and pycocotools."""

import contextlib
import io
import json
import logging
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from bench.inputs import NUM_CLASSES

HEIGHT, WIDTH = 480, 640
TASKS = ("bbox", "segm")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
CORNERS = 10


def _polygons(random: np.random.Generator, centres: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """(n, 2) centres and half sizes to (n, 2 * CORNERS) flat corners inside the picture."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    radius = random.uniform(0.75, 1.0, (len(centres), CORNERS, 1))
    corners = centres[:, None] + radius * halves[:, None] * circle
    return np.clip(corners, 0, [WIDTH, HEIGHT]).reshape(len(centres), -1)


def _box(polygon: np.ndarray) -> list[float]:
    x, y = polygon[0::2], polygon[1::2]
    return [float(x.min()), float(y.min()), float(x.max() - x.min()), float(y.max() - y.min())]


def make_files(folder: Path, images: int, objects: int, detections: int) -> None:
    """Write `truth.json` (COCO) and `detections.json` (COCO results with masks): shifted objects and false alarms."""
    random = np.random.default_rng(0)
    annotations, results = [], []
    for image_id in range(1, images + 1):
        halves = np.exp(random.uniform(np.log(6), np.log(150), (objects, 2)))
        centres = random.uniform(0.1, 0.9, (objects, 2)) * [WIDTH, HEIGHT]
        classes = random.integers(1, NUM_CLASSES + 1, objects)
        for polygon, category in zip(_polygons(random, centres, halves), classes):
            run = coco_mask.merge(coco_mask.frPyObjects([polygon.tolist()], HEIGHT, WIDTH))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(category),
                    "bbox": _box(polygon),
                    "area": float(coco_mask.area(run)),
                    "iscrowd": 0,
                    "segmentation": [polygon.tolist()],
                }
            )
        picks = random.integers(0, objects, detections)
        shift = random.normal(0, 0.2, (detections, 2)) * halves[picks]
        moved = _polygons(random, centres[picks] + shift, halves[picks] * random.uniform(0.8, 1.25, (detections, 2)))
        for polygon, pick in zip(moved, picks):
            right = random.uniform() < 0.8
            run = coco_mask.frPyObjects([polygon.tolist()], HEIGHT, WIDTH)[0]
            results.append(
                {
                    "image_id": image_id,
                    "category_id": int(classes[pick]) if right else int(random.integers(1, NUM_CLASSES + 1)),
                    "bbox": _box(polygon),
                    "score": float(random.uniform(0.05, 1.0)),
                    "segmentation": {"size": run["size"], "counts": run["counts"].decode()},
                }
            )
    coco = {
        "info": {},
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, NUM_CLASSES + 1)],
    }
    (folder / "truth.json").write_text(json.dumps(coco))
    (folder / "detections.json").write_text(json.dumps(results))


def _per_image(results: list[dict]) -> list[dict]:
    by_image: dict[int, list[dict]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    return [{"image_id": image_id, "instances": instances} for image_id, instances in by_image.items()]


class Evaluator:
    """COCOEvaluator.evaluate() on predictions that it has processed: metrics of both tasks, and AP of each class."""

    def __init__(self, folder: str) -> None:
        from detectron2.data import DatasetCatalog
        from detectron2.data.datasets import register_coco_instances
        from detectron2.evaluation import COCOEvaluator

        logging.getLogger("detectron2").setLevel(logging.ERROR)
        register_coco_instances("benchmark", {}, str(Path(folder) / "truth.json"), folder)
        DatasetCatalog.get("benchmark")  # fills in the names of the classes
        self.evaluator = COCOEvaluator("benchmark", tasks=TASKS, distributed=False, output_dir=None)
        self.results = json.loads((Path(folder) / "detections.json").read_text())

    def warm_up(self) -> dict:
        numbers = self.run()
        flat = {f"{task}/{metric}": value for task, metrics in numbers.items() for metric, value in metrics.items()}
        return {"numbers": flat}

    def run(self) -> dict:
        # Detectron2's evaluator rewrites the category ids of what it holds, so each run has records of its own.
        self.evaluator.reset()
        self.evaluator._predictions = _per_image([dict(r, category_id=r["category_id"] - 1) for r in self.results])
        with contextlib.redirect_stdout(io.StringIO()):
            return self.evaluator.evaluate()


class Pycocotools:
    """The reference: loadRes, evaluate, accumulate and summarize of each task."""

    def __init__(self, folder: str) -> None:
        from pycocotools.coco import COCO

        with contextlib.redirect_stdout(io.StringIO()):
            self.truth = COCO(str(Path(folder) / "truth.json"))
        self.results = json.loads((Path(folder) / "detections.json").read_text())

    def warm_up(self) -> dict:
        return {"numbers": self.run()}

    def run(self) -> dict:
        from pycocotools.cocoeval import COCOeval

        numbers = {}
        for task in TASKS:
            # Without their boxes, results are measured by the area of their masks, as is the rule of task segm.
            dropped = "bbox" if task == "segm" else "segmentation"
            results = [{key: value for key, value in result.items() if key != dropped} for result in self.results]
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation = COCOeval(self.truth, self.truth.loadRes(results), task)
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
            numbers |= {f"{task}/{name}": 100 * float(value) for name, value in zip(METRICS, evaluation.stats)}
            precision = evaluation.eval["precision"][:, :, :, 0, -1]
            for index, category in enumerate(evaluation.params.catIds):
                values = precision[:, :, index]
                values = values[values > -1]
                numbers[f"{task}/AP-class {category}"] = 100 * float(values.mean()) if values.size else float("nan")
        return numbers
