"""train_net.py from a checkpoint with other classes: rows by name, and a difference that is not allowed."""

import json

import pytest
import torch

from detectron2.data import DatasetCatalog
from rcnnkit.data.registration import forget
from tests.rcnnkit import runs, tiny

# No weight moves that is not 0: what is saved is what training began with.
STILL = ("SOLVER.BASE_LR", "1e-30", "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")
SPECIFIC = ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "False", "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "False")


@pytest.fixture
def train(repository, tmp_path):
    """Train on the tiny data set with these names of classes."""
    data = tmp_path / "data"
    data.mkdir()
    path = tiny.write_data_set(data)

    def run(classes: list[str], output, *more: str) -> int:
        if "tiny" in DatasetCatalog.list():
            forget("tiny")
        content = json.loads(path.read_text())
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        path.write_text(json.dumps(content))
        number = ("MODEL.ROI_HEADS.NUM_CLASSES", str(len(classes)))
        return runs.run_here(tiny.command(repository, path, output, *STILL, *SPECIFIC, *number, *more))

    yield run
    if "tiny" in DatasetCatalog.list():
        forget("tiny")


def weights(output) -> dict[str, torch.Tensor]:
    return torch.load(output / "model_final.pth", weights_only=True)["model"]


BOX, MASK = "roi_heads.box_predictor", "roi_heads.mask_head.predictor"


def test_rows_of_equal_names_go_along_to_more_and_to_fewer_classes(train, tmp_path, capfd):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert train(["bright", "dark"], first) == 0, capfd.readouterr().err
    begin = ("MODEL.WEIGHTS", str(first / "model_final.pth"))
    assert train(["grey", "dark", "blue"], second, *begin, "SEED", "5") == 0, capfd.readouterr().err
    before, after = weights(first), weights(second)
    scores = f"{BOX}.cls_score.weight"
    assert torch.equal(after[scores][[1, 3]], before[scores][[1, 2]])  # dark, the background
    assert not any(torch.equal(row, other) for row in after[scores][[0, 2]] for other in before[scores])
    assert torch.equal(after[f"{BOX}.bbox_pred.weight"][4:8], before[f"{BOX}.bbox_pred.weight"][4:8])
    assert torch.equal(after[f"{MASK}.weight"][1], before[f"{MASK}.weight"][1])
    for key in before:
        if not key.startswith((BOX, MASK)) and not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(after[key], before[key], rtol=0, atol=1e-20)
    log = (second / "log.txt").read_text()
    assert f"{scores}: classes kept 1: dark; new 2: grey, blue; dropped 1: bright" in log

    begin = ("MODEL.WEIGHTS", str(second / "model_final.pth"))
    assert train(["blue", "dark"], third, *begin, "SEED", "6") == 0, capfd.readouterr().err
    found = weights(third)
    assert torch.equal(found[scores], after[scores][[2, 1, 3]])
    assert torch.equal(found[f"{MASK}.weight"], after[f"{MASK}.weight"][[2, 1]])


def test_what_is_not_allowed_is_one_line(train, tmp_path, capfd):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(["bright", "dark"], first) == 0, capfd.readouterr().err
    begin = ("MODEL.WEIGHTS", str(first / "model_final.pth"), "RCNNKIT.WEIGHTS_MISMATCH")
    for mode, more, words in (
        ("none", (), f"{BOX}.cls_score.weight"),
        ("classes", ("MODEL.ROI_BOX_HEAD.FC_DIM", "16"), "roi_heads.box_head.fc1.weight"),
    ):
        capfd.readouterr()
        assert train(["grey", "dark"], second, *begin, mode, *more) == 2
        [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("train_net.py: ")]
        assert f"RCNNKIT.WEIGHTS_MISMATCH '{mode}'" in line and words in line and not second.exists()
    assert train(["grey", "dark"], second, *begin, "classes") == 0, capfd.readouterr().err
