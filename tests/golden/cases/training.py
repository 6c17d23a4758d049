"""Twenty training steps of each family on made pictures, from one set of weights: every loss of each step.

Sampling takes everything, so no draw enters; what differs between two engines is the order of float32 sums, which
training amplifies: the larger the steps, the faster. The learning rate is 1e-4, a quarter of what the zoo's warm-up has
reached after twenty steps; at ten times that the curves part by up to 1e-3 within twenty steps.
"""

import math

import torch

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


def _batch(step: int, keypoints: bool) -> list[dict]:
    """Two pictures, rolled sideways from step to step; the objects stay where they are."""
    inputs = []
    for index, image in enumerate(models.images()):
        truth = models.ground_truth(tuple(image.shape[1:]), keypoints)
        shifted = image.roll(3 * step + index, dims=2)
        inputs.append({"image": shifted, "instances": truth[: 3 - index - step % 2]})
    return inputs


def train(name: str) -> dict[str, list[float]]:
    """Loss name → its value in each step."""
    cfg = models.config(name)
    cfg.merge_from_list([*models.NARROW, *FEW_BOXES, "SOLVER.BASE_LR", BASE_LR])
    with models.usable_deformable_layers():
        model = models.fill(models.build_model(cfg)).train()
    if name.startswith("retinanet"):
        # As it starts by itself: nearly all anchors are background, and half a million of them are scored.
        torch.nn.init.constant_(model.head.cls_score.bias, -math.log(99))
    optimizer = build_optimizer(cfg, model)
    curves: dict[str, list[float]] = {}
    with EventStorage(0) as storage:
        for step in range(STEPS):
            losses = model(_batch(step, "keypoint" in name))
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            storage.step()
            for key, value in losses.items():
                curves.setdefault(key, []).append(value.item())
    return curves


CASES = {f"training_{family}": lambda name=name: train(name) for family, name in FAMILIES.items()}
