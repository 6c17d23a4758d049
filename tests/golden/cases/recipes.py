"""Around the network: learning-rate curves, samplers, augmentations, COCO numbers."""

import contextlib
import copy
import io
import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.data.datasets import register_coco_instances
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.evaluation import COCOEvaluator
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.structures import Boxes, BoxMode, Instances

HEIGHT, WIDTH = 75, 100


def learning_rates() -> dict:
    """Multi-step and cosine schedules with linear and constant warm-up: the rate of every third of 100 steps."""
    out = {}
    for schedule, method in itertools.product(("WarmupMultiStepLR", "WarmupCosineLR"), ("linear", "constant")):
        cfg = get_cfg()
        cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.WARMUP_METHOD = schedule, method
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.STEPS = 100, 20, (60, 80)
        optimizer = build_optimizer(cfg, torch.nn.Linear(2, 2))
        scheduler = build_lr_scheduler(cfg, optimizer)
        curve = []
        for _ in range(100):
            curve.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        out[f"{schedule}_{method}"] = np.array(curve[::3])
    return out


def sampler_order() -> dict:
    """The first 40 indices of the training samplers for a given seed."""
    records = [
        {"annotations": [{"category_id": c} for c in cs]} for cs in ([0], [0, 1], [0], [2], [0, 0], [0], [1], [0])
    ]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.3)
    return {
        "training": np.array(list(itertools.islice(iter(TrainingSampler(17, seed=5)), 40))),
        "unshuffled": np.array(list(itertools.islice(iter(TrainingSampler(7, shuffle=False)), 20))),
        "repeat_factors": factors.numpy(),
        "repeated": np.array(list(itertools.islice(iter(RepeatFactorTrainingSampler(factors, seed=5)), 40))),
    }


def augmentations() -> dict:
    """Image, boxes, polygons and key points after each augmentation, with numpy's seed fixed before each."""
    random = np.random.RandomState(21)
    coarse = torch.from_numpy(random.uniform(0, 255, (1, 3, 8, 10)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0]
    image = np.ascontiguousarray(smooth.permute(1, 2, 0).numpy().astype(np.uint8))
    annotation = {
        "bbox": [20.0, 10.0, 40.0, 50.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0,
        "segmentation": [[20.0, 10.0, 60.0, 10.0, 60.0, 60.0, 25.0, 55.0]],
        "keypoints": [25.0, 15.0, 2, 55.0, 50.0, 1, 40.0, 30.0, 0],
    }  # fmt: skip
    flip = utils.create_keypoint_hflip_indices(["three_points"])
    augmentations = {
        "shortest_edge": T.ResizeShortestEdge((40, 60), 80, "range"),
        "resize": T.Resize((50, 60)),
        "flip": T.RandomFlip(1.0),
        "flip_vertical": T.RandomFlip(1.0, horizontal=False, vertical=True),
        "crop": T.RandomCrop("relative_range", (0.5, 0.6)),
        "extent": T.RandomExtent((0.8, 1.2), (0.1, 0.1)),
        "rotation": T.RandomRotation([-30, 30], expand=True),
        "scale": T.ResizeScale(0.5, 1.5, 64, 64),
        "fixed_crop": T.FixedSizeCrop((64, 64)),
        "brightness": T.RandomBrightness(0.7, 1.3),
        "contrast": T.RandomContrast(0.7, 1.3),
        "saturation": T.RandomSaturation(0.7, 1.3),
        "lighting": T.RandomLighting(20.0),
    }
    out = {}
    for name, augmentation in augmentations.items():
        np.random.seed(22)  # noqa: NPY002  the augmentations draw from the global generator
        inputs = T.AugInput(image.copy())
        transform = T.AugmentationList([augmentation])(inputs)
        size = inputs.image.shape[:2]
        changed = utils.transform_instance_annotations(
            copy.deepcopy(annotation), transform, size, keypoint_hflip_indices=flip
        )
        out[f"{name}_image"] = inputs.image[::5, ::5].astype(np.float32)
        out[f"{name}_size"] = np.array(size)
        out[f"{name}_box"] = np.asarray(changed["bbox"], dtype=np.float64)
        out[f"{name}_polygon"] = np.asarray(changed["segmentation"][0], dtype=np.float64)
        out[f"{name}_keypoints"] = np.asarray(changed["keypoints"], dtype=np.float64)
    return out


MetadataCatalog.get("three_points").set(
    keypoint_names=("left", "right", "middle"), keypoint_flip_map=(("left", "right"),), keypoint_connection_rules=[]
)


def coco_numbers() -> dict:
    """Average precision of perturbed detections on a small data set with crowd regions: boxes, masks and key points."""
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        truth = _coco_truth()
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps(truth))
        name = "golden_coco_numbers"
        register_coco_instances(name, {}, str(path), folder)
        MetadataCatalog.get(name).keypoint_names = ["a", "b", "c"]
        with contextlib.redirect_stdout(io.StringIO()):
            records = DatasetCatalog.get(name)
            evaluator = COCOEvaluator(
                name, ("bbox", "segm", "keypoints"), False, use_fast_impl=False, kpt_oks_sigmas=(0.05, 0.06, 0.07)
            )
            evaluator.reset()
            evaluator.process(records, [{"instances": _detections(record)} for record in records])
            results = evaluator.evaluate()
        for task, metrics in results.items():
            out.update({f"{task}/{metric}": float(value) for metric, value in metrics.items()})
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    return out


def _coco_truth() -> dict:
    random = np.random.RandomState(31)
    images, annotations = [], []
    for image_id in range(1, 13):
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 120, "width": 160})
        for _ in range(random.randint(0, 6)):
            x, y = random.uniform(0, 100), random.uniform(0, 70)
            w, h = random.uniform(8, 55), random.uniform(8, 45)
            points = np.stack(
                [x + random.uniform(0, w, 3), y + random.uniform(0, h, 3), random.randint(0, 3, 3)], axis=1
            )
            crowd = int(random.uniform() < 0.1)
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(random.randint(1, 4)) * 10,
                 "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd,
                 "segmentation": _uncompressed(x, y, w, h) if crowd else [polygon],
                 "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            )  # fmt: skip
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i * 10, "name": f"class{i}"} for i in (1, 2, 3)],
    }


def _uncompressed(x: float, y: float, w: float, h: float) -> dict:
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[int(y) : int(y + h), int(x) : int(x + w)] = 1
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": [120, 160], "counts": counts.tolist()}


def _detections(record: dict) -> Instances:
    random = np.random.RandomState(record["image_id"])
    boxes, classes, masks, keypoints = [], [], [], []
    for annotation in record["annotations"]:
        x, y, w, h = annotation["bbox"]
        x, y, w, h = np.array([x, y, w, h]) * random.uniform(0.9, 1.1, 4)
        boxes.append([x, y, x + w, y + h])
        classes.append(annotation["category_id"] if random.uniform() < 0.9 else random.randint(0, 3))
        mask = np.zeros((120, 160), dtype=bool)
        mask[int(y) : int(y + h), int(x) : int(x + w)] = True
        masks.append(mask)
        points = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
        points[:, :2] += random.normal(0, 2, (len(points), 2))
        keypoints.append(points)
    found = Instances((120, 160))
    count = len(boxes)
    found.pred_boxes = Boxes(torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32))
    found.scores = torch.from_numpy(random.uniform(0.1, 1, count).astype(np.float32))
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    found.pred_masks = torch.from_numpy(np.array(masks).reshape(-1, 120, 160).astype(bool))
    found.pred_keypoints = torch.from_numpy(np.array(keypoints).reshape(-1, 3, 3).astype(np.float32))
    return found


CASES = {function.__name__: function for function in (learning_rates, sampler_order, augmentations, coco_numbers)}
