"""train_net.py whose model gives a loss that is no number on one process: `bad_loss_run.py RANK ARGUMENTS…`."""

import os
import runpy
import sys
from pathlib import Path

import rcnnkit  # noqa: F401
from detectron2.modeling.roi_heads import FastRCNNOutputLayers


def main() -> None:
    losses = FastRCNNOutputLayers.losses

    def bad_losses(self, predictions, proposals):
        named = losses(self, predictions, proposals)
        return {**named, "loss_cls": named["loss_cls"] * float("nan")}

    if os.environ.get("RANK") == sys.argv[1]:
        FastRCNNOutputLayers.losses = bad_losses
    script = Path(__file__).resolve().parents[2] / "train_net.py"
    sys.argv = [str(script), *sys.argv[2:]]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
