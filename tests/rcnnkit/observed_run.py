"""train_net.py under observation: `python observed_run.py FOLDER ARGUMENTS…`, by torchrun or alone.

Each process leaves `FOLDER/rank<N>.pt`: the losses of every step as rank 0 records them (the mean over the processes),
the images that the process saw in each step, and its parameters at the end.
"""

import os
import runpy
import sys
from pathlib import Path

import torch

import rcnnkit  # noqa: F401
from detectron2.engine import HookBase
from rcnnkit.engine.trainer import Trainer


class Observer(HookBase):
    """Keeps the losses and images of each step."""

    def __init__(self, file: Path):
        self._file = file
        self.losses: list[dict[str, float]] = []
        self.images: list[list[int]] = []

    def after_step(self):
        latest = self.trainer.storage.latest()
        self.losses.append({name: value for name, (value, _) in latest.items() if "loss" in name})

    def after_train(self):
        model = getattr(self.trainer.model, "module", self.trainer.model)
        observed = {"losses": self.losses, "images": self.images, "parameters": model.state_dict()}
        torch.save(observed, self._file)


def main() -> None:
    observer = Observer(Path(sys.argv[1]) / f"rank{os.environ.get('RANK', '0')}.pt")
    build_hooks, build_model = Trainer.build_hooks, Trainer.build_model.__func__

    def build_observed_model(cls, cfg):
        model = build_model(cls, cfg)
        model.register_forward_pre_hook(
            lambda module, inputs: observer.images.append([record["image_id"] for record in inputs[0]])
        )
        return model

    Trainer.build_model = classmethod(build_observed_model)
    Trainer.build_hooks = lambda trainer: [*build_hooks(trainer), observer]
    script = Path(__file__).resolve().parents[2] / "train_net.py"
    sys.argv = [str(script), *sys.argv[2:]]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
