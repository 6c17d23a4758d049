"""Every quick config trains ten steps on the embedded data set, and is evaluated."""

import json
import math

import pytest

from rcnnkit.data import shapes
from tests.conftest import REPOSITORY
from tests.rcnnkit import runs

NAMES = sorted(path.stem for path in (REPOSITORY / "configs" / "quick").glob("*.yaml") if "Base" not in path.stem)
SHAPES = "shapes_for_quick_configs"


@pytest.fixture(scope="module")
def few_shapes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", {"train": 24, "val": 2})
        shapes.register_shapes(tmp_path_factory.mktemp("data") / "shapes", names=SHAPES)
        yield SHAPES
    runs.forget_data(f"{SHAPES}_train", f"{SHAPES}_val")


def train(config: str, output, *more: str) -> int:
    flags = [argument for argument in more if argument.startswith("--")]
    overrides = [argument for argument in more if not argument.startswith("--")]
    return runs.run_here(
        [
            *("--config-file", str(REPOSITORY / "configs" / "quick" / f"{config}.yaml"), *flags),
            *("DATASETS.TRAIN", f"('{SHAPES}_train',)", "DATASETS.TEST", f"('{SHAPES}_val',)"),
            *("SOLVER.MAX_ITER", "10", "SOLVER.WARMUP_ITERS", "2", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
            *("SOLVER.IMS_PER_BATCH", "2", "OUTPUT_DIR", str(output), *overrides),
        ]
    )


def check(output, mask: bool, keypoints: bool) -> None:
    steps = runs.metrics(output)
    assert steps[-1]["iteration"] == 9 and all(math.isfinite(step["total_loss"]) for step in steps)
    last = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()][-1]
    found = {task for task in ("bbox", "segm", "boundary", "keypoints") if f"{task}/AP" in last}
    assert found == {"bbox", *(["segm", "boundary"] if mask else []), *(["keypoints"] if keypoints else [])}
    assert not runs.missing_files(output)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ten_steps_on_shapes(name, few_shapes, tmp_path, capfd):
    assert train(name, tmp_path) == 0, capfd.readouterr().err[-2000:]
    everything = name.startswith("multi_task_rcnn")
    check(tmp_path, mask="mask" in name or everything, keypoints="keypoint" in name or everything)


@pytest.mark.parametrize("kind", [pytest.param("class_balanced", marks=pytest.mark.slow), "seesaw"])
def test_other_class_losses_train_resume_and_evaluate(kind, few_shapes, tmp_path, capfd):
    own = ("MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", kind, "SOLVER.CHECKPOINT_PERIOD", "1")
    assert train("faster_rcnn_R_18_FPN_shapes", tmp_path, *own, "SOLVER.MAX_ITER", "2") == 0, capfd.readouterr().err
    assert ("objects of each class" in (tmp_path / "log.txt").read_text()) == (kind == "class_balanced")
    assert train("faster_rcnn_R_18_FPN_shapes", tmp_path, *own, "--resume", "SOLVER.MAX_ITER", "3") == 0
    assert "Starting training from iteration 2" in (tmp_path / "log.txt").read_text()
    weights = ("MODEL.WEIGHTS", str(tmp_path / "model_final.pth"))
    assert train("faster_rcnn_R_18_FPN_shapes", tmp_path / "again", "--eval-only", *own, *weights) == 0
