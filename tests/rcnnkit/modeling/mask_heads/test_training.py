"""Ten steps of the quick configs on shapes, and their evaluation."""

import json

import pytest

from rcnnkit.data.shapes import register_shapes
from tests.rcnnkit import runs


@pytest.fixture(scope="module")
def few_shapes(tmp_path_factory):
    from rcnnkit.data import shapes

    names = "shapes_for_masks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", {"train": 64, "val": 4})
        register_shapes(tmp_path_factory.mktemp("data") / "shapes", names=names)
        yield names
    runs.forget_data(f"{names}_train", f"{names}_val")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "losses"),
    [("quality", ("loss_mask", "loss_mask_quality")), ("boundary", ("loss_mask", "loss_mask_boundary"))],
)
def test_ten_steps_on_shapes(name, losses, few_shapes, tmp_path, repository, capfd):
    status = runs.run_here(
        [
            *("--config-file", str(repository / "configs" / "quick" / f"mask_rcnn_R_18_FPN_shapes_{name}.yaml")),
            *("DATASETS.TRAIN", f"('{few_shapes}_train',)", "DATASETS.TEST", f"('{few_shapes}_val',)"),
            *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "SOLVER.MAX_ITER", "10", "SOLVER.WARMUP_ITERS", "2"),
            *("OUTPUT_DIR", str(tmp_path)),
        ]
    )
    assert status == 0, capfd.readouterr().err[-2000:]
    steps = runs.metrics(tmp_path)
    assert steps[-1]["iteration"] == 9 and all(0 <= step[loss] < 20 for step in steps for loss in losses)
    found = json.loads((tmp_path / "inference" / "coco_instances_results.json").read_text())
    assert found and all(("mask_score" in one) == (name == "quality") for one in found)
    assert not runs.missing_files(tmp_path)
