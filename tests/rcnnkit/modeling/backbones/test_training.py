"""Ten steps of a Mask R-CNN on each family, on the embedded data set; every weight learns."""

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.data import build_detection_train_loader
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from rcnnkit.config import add_rcnnkit_config

from .common import MOBILENET, TIMM

STEPS = 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "own"),
    [
        (TIMM, ["MODEL.TIMM.NAME", "test_resnet"]),
        (TIMM, ["MODEL.TIMM.NAME", "test_convnext", "MODEL.TIMM.DROP_PATH_RATE", 0.1]),
        (TIMM, ["MODEL.TIMM.NAME", "swin_tiny_patch4_window7_224", "MODEL.TIMM.CHECKPOINT_ACTIVATIONS", True]),
        (TIMM, ["MODEL.TIMM.NAME", "pvt_v2_b0"]),
        (MOBILENET, ["MODEL.MOBILENET.SIZE", "small"]),
        (MOBILENET, ["MODEL.MOBILENET.SIZE", "large"]),
    ],
)
def test_ten_steps_on_shapes(repository, monkeypatch, builder, own):
    monkeypatch.chdir(repository)
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.merge_from_file("configs/quick/mask_rcnn_R_18_FPN_shapes.yaml")
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", builder, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 0.005, *own])
    cfg.merge_from_list(["SOLVER.WARMUP_ITERS", 0])
    model = build_model(cfg).train()
    trainer = SimpleTrainer(model, build_detection_train_loader(cfg), build_optimizer(cfg, model))
    learning = set()
    with EventStorage() as storage:
        for trainer.iter in range(STEPS):
            storage.iter = trainer.iter
            trainer.run_step()
            learning |= {
                name for name, value in model.backbone.named_parameters() if value.grad is not None and value.grad.any()
            }
    assert all(torch.isfinite(value).all() for value in model.parameters())
    # the quick configs do not use p5 and p6; the coarsest maps reach the others from above
    still = {name for name, _ in model.backbone.named_parameters() if not name.startswith("fpn_output5")} - learning
    assert not still
    model.eval()
    with torch.no_grad():
        output = model([{"image": torch.zeros(3, 97, 131), "height": 97, "width": 131}])
    assert output[0]["instances"].image_size == (97, 131)
