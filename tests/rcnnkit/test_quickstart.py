"""`rcnnkit quickstart` and `rcnnkit data show` on a handful of pictures: all is written, and reused the second time."""

import json
import re
from pathlib import Path

import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.cli import quickstart
from rcnnkit.cli.main import main
from rcnnkit.data import shapes

NAMES = ("shapes_few_train", "shapes_few_val")
SMALL = [
    *("DATASETS.TRAIN", "('shapes_few_train',)", "DATASETS.TEST", "('shapes_few_val',)"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "0"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "20", "MODEL.DEVICE", "cpu"),
]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", {"train": 8, "val": 4})
        shapes.register_shapes(tmp_path_factory.mktemp("data") / "shapes", names="shapes_few")
        yield
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture(scope="module")
def finished(few, tmp_path_factory):
    output = tmp_path_factory.mktemp("quickstart")
    assert main(["quickstart", "--output", str(output), *SMALL]) == 0
    return output


def test_writes_the_page_and_everything_it_links_to(finished):
    document = (finished / "index.html").read_text()
    links = set(re.findall(r'(?:src|href)="([^"]+)"', document))
    assert {"curves.png", "training/model_final.pth", "training/metrics.json"} <= links
    assert sum(link.startswith("pictures/") for link in links) == 4
    for link in links:
        assert not Path(link).is_absolute() and (finished / link).is_file(), link
    results = json.loads((finished / "results.json").read_text())["results"]
    assert set(results) == {"bbox", "segm", "boundary"}


def test_second_run_reuses_everything(finished, monkeypatch, capsys):
    model = (finished / "training" / "model_final.pth").stat().st_mtime_ns

    def never(*arguments):
        raise AssertionError("nothing is left to train or evaluate")

    monkeypatch.setattr(quickstart, "Trainer", never)
    assert main(["quickstart", "--output", str(finished), *SMALL]) == 0
    assert (finished / "training" / "model_final.pth").stat().st_mtime_ns == model
    shown = capsys.readouterr().out
    assert "boxes" in shown and "triangle" in shown and "index.html" in shown


def test_an_interrupted_training_goes_on(finished, monkeypatch):
    seen = []
    training = finished / "training"
    (training / "model_final.pth").unlink()
    (training / "last_checkpoint").write_text("model_0000000.pth")
    original = quickstart.Trainer.resume_or_load

    def spy(self, resume=True):
        original(self, resume=resume)
        seen.append((resume, self.start_iter))

    monkeypatch.setattr(quickstart.Trainer, "resume_or_load", spy)
    assert main(["quickstart", "--output", str(finished), *SMALL]) == 0
    assert seen == [(True, 1)]
    assert (training / "model_final.pth").is_file()


def test_a_folder_with_another_training_is_refused(finished, capsys):
    assert main(["quickstart", "--output", str(finished), *SMALL, "SOLVER.BASE_LR", "0.5"]) == 2
    message = capsys.readouterr().err.strip()
    assert "SOLVER.BASE_LR is 0.001 there, 0.5 now" in message and "\n" not in message


def test_every_quick_config_is_found():
    assert quickstart.find_config(quickstart.CONFIG).is_file()


def test_sheet(few, tmp_path, capsys):
    path = tmp_path / "sheet.png"
    arguments = ["--out", str(path), "--columns", "3", "--count", "6", "--tile", "128", "--plain"]
    assert main(["data", "show", NAMES[0], *arguments]) == 0
    assert path.is_file() and "6 images" in capsys.readouterr().out
    assert main(["data", "show", "shapes_fwe_train", "--out", str(tmp_path / "other.png")]) == 2
    assert "shapes_few_train" in capsys.readouterr().err
