"""SOLVER.AMP.ENABLED in the trainer of train_net.py: half precision in the forward pass, full precision weights."""

import pytest
import torch

from detectron2.utils.events import EventStorage
from rcnnkit.engine.setup import argument_parser, config_from_arguments
from rcnnkit.engine.trainer import Trainer
from rcnnkit.engine_choice import activate_engine
from tests.rcnnkit import runs, tiny


@pytest.fixture
def trainer(tmp_path):
    """A trainer with SOLVER.AMP.ENABLED and masks, before its first step, on four tiny images."""
    data = {"tiny": (tiny.write_data_set(tmp_path), tmp_path)}
    more = (
        "MODEL.MASK_ON",
        "True",
        "MODEL.ROI_HEADS.NUM_CLASSES",
        "2",
        "SOLVER.AMP.ENABLED",
        "True",
        "DATASETS.TEST",
        "()",
    )
    arguments = argument_parser().parse_args(runs.train_net(tmp_path, data, *more, "--device=cpu"))
    yield Trainer(config_from_arguments(arguments))
    runs.forget_data("tiny")


@pytest.mark.skipif(activate_engine() != "builtin", reason="stock Detectron2 trains in half precision on GPUs only")
def test_cpu_trains_in_bfloat16(trainer, tmp_path):
    seen = set()
    convolution = trainer.model.backbone.fpn_output2
    convolution.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert seen == {torch.bfloat16}
    assert runs.metrics(tmp_path / "output")[-1]["total_loss"] > 0
    after = dict(trainer.model.named_parameters())
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in after.values())
    moved = [name for name, value in after.items() if not torch.equal(value, before[name])]
    assert {"backbone.fpn_output2.weight", "roi_heads.box_predictor.bbox_pred.weight"} <= set(moved)
    assert "grad_scaler" in trainer.state_dict()["_trainer"]


@pytest.mark.skipif(activate_engine() != "builtin", reason="stock Detectron2 trains in half precision on GPUs only")
def test_losses_are_near_those_of_full_precision(trainer):
    batch = next(iter(trainer.data_loader))
    with EventStorage(0):
        torch.manual_seed(0)
        full = trainer.model(batch)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = trainer.model(batch)
    assert full.keys() == half.keys()
    for name in ("loss_rpn_cls", "loss_cls", "loss_mask"):
        assert half[name].dtype == torch.float32  # sums and logarithms are taken in full precision
        assert half[name].item() == pytest.approx(full[name].item(), rel=0.05)
