"""Twenty training steps of each family from one set of weights: every loss of each step.

The pictures are made, or photographs of RCNNKIT_TEST_DATA with human annotations. These come the whole way: the reader
of COCO files, the filter of empty images, the seeded order, grouping by shape and the mapper are the engine's own.

Sampling takes everything, so no draw enters; what differs between two engines is the order of float32 sums, which
training amplifies: the larger the steps, the faster. The learning rate is 1e-4, a quarter of what the zoo's warm-up has
reached after twenty steps; at ten times that the curves part by up to 1e-3 within twenty steps.

Photographs train at a quarter of that rate. There most curves stay within 2e-6; at 1e-4 they reach 8e-5. At any rate a
choice (a proposal kept, an anchor matched) may now and then fall to the other side by the last bit of a sum, and 1e-3
parts the curves from that step on: Faster R-CNN on coco_mini does so in its last three steps at 1e-4 and 2.5e-5, not
at 5e-5. So it trains on nuts here.
"""

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data.build import filter_images_with_few_keypoints, filter_images_with_only_crowd_annotations
from detectron2.data.datasets import load_coco_json
from detectron2.data.samplers import TrainingSampler
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from tests.golden.cases import models

STEPS = 20
BASE_LR = 0.0001
# family → architecture of the zoo, made narrow
FAMILIES = {
    "faster_FPN": "faster_R50_FPN",
    "mask_FPN": "mask_R50_FPN",
    "mask_C4": "mask_R50_C4",
    "keypoint_FPN": "keypoint_R50_FPN",
    "cascade_FPN": "cascade_R50_FPN",
    "rpn_FPN": "rpn_R50_FPN",
    "retinanet_FPN": "retinanet_R50_FPN",
}
FEW_BOXES = ["MODEL.RPN.POST_NMS_TOPK_TRAIN", 12]
# family → folder of photographs, its annotations, their images
PHOTOGRAPHS = {
    "faster_FPN": ("nuts", "trainval.json", "images"),
    "mask_FPN": ("nuts", "trainval.json", "images"),
    "mask_C4": ("coco_mini", "annotations/instances_train2017.json", "train2017"),
    "keypoint_FPN": ("coco_mini", "annotations/person_keypoints_train2017.json", "train2017"),
    "cascade_FPN": ("nuts", "trainval.json", "images"),
    "rpn_FPN": ("coco_mini", "annotations/instances_train2017.json", "train2017"),
    "retinanet_FPN": ("nuts", "trainval.json", "images"),
}
PHOTOGRAPH_OPTIONS = [
    "INPUT.MIN_SIZE_TRAIN", (144,), "INPUT.MAX_SIZE_TRAIN", 240, "INPUT.RANDOM_FLIP", "none",
    "INPUT.MASK_FORMAT", "bitmask", "SOLVER.BASE_LR", 0.000025, "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 100000,
]  # fmt: skip


def made(name: str, cfg: CfgNode) -> Iterator[list[dict]]:
    """Two pictures a batch, rolled sideways from step to step; the objects stay where they are."""
    for step in range(STEPS):
        inputs = []
        for index, image in enumerate(models.images()):
            truth = models.ground_truth(tuple(image.shape[1:]), "keypoint" in name)
            shifted = image.roll(3 * step + index, dims=2)
            inputs.append({"image": shifted, "instances": truth[: 3 - index - step % 2]})
        yield inputs


def photographs(name: str, cfg: CfgNode) -> Iterator[list[dict]]:
    """Two photographs a batch, in the order of a seeded TrainingSampler and grouped by their shape."""
    cfg.merge_from_list(PHOTOGRAPH_OPTIONS)
    folder, annotations, images = PHOTOGRAPHS[next(family for family in FAMILIES if FAMILIES[family] == name)]
    root = Path(os.environ["RCNNKIT_TEST_DATA"]) / folder
    keys = ["keypoints"] if cfg.MODEL.KEYPOINT_ON else None
    data_set = f"photographs_{folder}_{Path(annotations).stem}"
    records = load_coco_json(str(root / annotations), str(root / images), data_set, keys)
    records = filter_images_with_only_crowd_annotations(records)
    if cfg.MODEL.KEYPOINT_ON:
        records = filter_images_with_few_keypoints(records, cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
    loader = build_detection_train_loader(
        records,
        mapper=DatasetMapper(cfg, is_train=True),
        sampler=TrainingSampler(len(records), shuffle=True, seed=11),
        total_batch_size=2,
        num_workers=0,
    )
    return iter(loader)


def train(name: str, batches: Callable[[str, CfgNode], Iterator[list[dict]]]) -> dict[str, list[float]]:
    """Loss name → its value in each step."""
    cfg = models.config(name)
    cfg.merge_from_list([*models.NARROW, *FEW_BOXES, "SOLVER.BASE_LR", BASE_LR])
    inputs = batches(name, cfg)
    with models.usable_deformable_layers():
        model = models.fill(models.build_model(cfg)).train()
    if name.startswith("retinanet"):
        # As it starts by itself: nearly all anchors are background, and half a million of them are scored.
        torch.nn.init.constant_(model.head.cls_score.bias, -math.log(99))
    optimizer = build_optimizer(cfg, model)
    curves: dict[str, list[float]] = {}
    with EventStorage(0) as storage:
        for _ in range(STEPS):
            losses = model(next(inputs))
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            storage.step()
            for key, value in losses.items():
                curves.setdefault(key, []).append(value.item())
    return curves


CASES = {f"training_{family}": partial(train, name, made) for family, name in FAMILIES.items()}
ON_PHOTOGRAPHS = {f"photographs_{family}": partial(train, name, photographs) for family, name in FAMILIES.items()}
