"""A short training on pictures of the embedded data set with large-scale jitter, copy-paste and mosaic."""

import json
import math

import pytest

from rcnnkit.data import shapes
from tests.rcnnkit import runs

STEPS = 10
ON = "RCNNKIT.AUGMENTATION"
NAMES = ("shapes_pasted_train", "shapes_pasted_val")


@pytest.fixture
def few(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {"train": 6, "val": 2})
    shapes.register_shapes(tmp_path / "shapes", names="shapes_pasted")
    yield
    runs.forget_data(*NAMES)


def test_ten_steps_with_all_of_them(few, tmp_path):
    output = tmp_path / "output"
    arguments = [
        *("--config-file", str(runs.REPOSITORY / "configs/quick/mask_rcnn_R_18_FPN_shapes.yaml"), "--device", "cpu"),
        *("DATASETS.TRAIN", repr(NAMES[:1]), "DATASETS.TEST", "()", "OUTPUT_DIR", str(output)),
        *("SOLVER.MAX_ITER", str(STEPS), "SOLVER.IMS_PER_BATCH", "2", "SOLVER.CHECKPOINT_PERIOD", "1000"),
        *("INPUT.MASK_FORMAT", "bitmask", "DATALOADER.NUM_WORKERS", "1", "SEED", "1"),
        *(f"{ON}.SCALE_JITTER.ENABLED", "True", f"{ON}.SCALE_JITTER.SIZE", "(128, 128)"),
        *(f"{ON}.COPY_PASTE.PROB", "0.8", f"{ON}.MOSAIC.PROB", "0.3"),
    ]
    assert runs.run_here(arguments) == 0
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert lines[-1]["iteration"] == STEPS - 1
    losses = [value for key, value in lines[-1].items() if key.startswith("loss_") or key == "total_loss"]
    assert len(losses) == 6 and all(map(math.isfinite, losses))
    told = (output / "log.txt").read_text()
    assert "objects of which other images hide all or nearly all" in told
