"""A model, data and a trainer small enough to train within milliseconds."""

import torch
from torch import nn

from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer


class TinyModel(nn.Module):
    """Two losses of one linear layer; batches are tensors (N, 2)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.zeros_(self.layer.bias)

    def forward(self, batch):
        output = self.layer(batch)
        return {"loss_a": (output**2).mean(), "loss_b": (output - 1).abs().mean()}


class Batches:
    """Batches that depend on their index only; `start` skips some, as a resumed training needs it."""

    def __init__(self, start=0, size=4, part=slice(None), spoilt=()):
        self.start, self.size, self.part, self.spoilt = start, size, part, spoilt

    def __iter__(self):
        index = self.start
        while True:
            batch = torch.rand(self.size, 2, generator=torch.Generator().manual_seed(index))
            yield (batch * float("nan") if index in self.spoilt else batch)[self.part]
            index += 1


class TinyTrainer(DefaultTrainer):
    start = 0

    @classmethod
    def build_model(cls, cfg):
        return TinyModel()

    @classmethod
    def build_train_loader(cls, cfg):
        return Batches(cls.start)

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        return {"bbox": {"AP": 1.5}}


def tiny_cfg(output_dir, max_iter=10):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(output_dir)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.SOLVER.MAX_ITER = max_iter
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.WARMUP_ITERS = 2
    cfg.SOLVER.STEPS = (8,)
    cfg.SOLVER.CHECKPOINT_PERIOD = 5
    return cfg
