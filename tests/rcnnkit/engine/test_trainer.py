import errno
import json
from types import SimpleNamespace

import pytest

from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.engine.trainer import Trainer
from rcnnkit.errors import UserError
from rcnnkit.evaluation.boundary import BoundaryCOCOEvaluator


@pytest.fixture
def named():
    yield "evaluated_somehow"
    MetadataCatalog.pop("evaluated_somehow", None)


@pytest.mark.parametrize("kind", [None, "coco"])
def test_coco_is_the_usual_evaluator(named, tmp_path, kind):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    MetadataCatalog.get(named).set(json_file=str(path), **({"evaluator_type": kind} if kind else {}))
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    evaluator = Trainer.build_evaluator(cfg, named)
    assert isinstance(evaluator, COCOEvaluator) and isinstance(evaluator, BoundaryCOCOEvaluator)
    cfg.RCNNKIT.BOUNDARY_AP = False
    evaluator = Trainer.build_evaluator(cfg, named)
    assert isinstance(evaluator, COCOEvaluator) and not isinstance(evaluator, BoundaryCOCOEvaluator)


def test_pascal_voc(named, tmp_path):
    (tmp_path / "Annotations").mkdir()
    details = {"dirname": str(tmp_path), "split": "val", "year": 2007, "thing_classes": ["cat"]}
    MetadataCatalog.get(named).set(evaluator_type="pascal_voc", **details)
    assert isinstance(Trainer.build_evaluator(get_cfg(), named), PascalVOCDetectionEvaluator)


def test_an_unknown_kind_is_named(named):
    MetadataCatalog.get(named).evaluator_type = "cityscapes"
    with pytest.raises(
        UserError, match="'cityscapes' in its metadata has no evaluator here; coco, lvis and pascal_voc"
    ):
        Trainer.build_evaluator(get_cfg(), named)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_no_room_for_a_checkpoint_is_told_with_its_file(monkeypatch, number):
    def full(self):
        raise OSError(number, "No space left", "output/model_0000001.pth")

    monkeypatch.setattr(DefaultTrainer, "train", full)
    trainer = Trainer.__new__(Trainer)
    trainer.cfg = SimpleNamespace(OUTPUT_DIR="output")
    expected = UserError if number == errno.ENOSPC else OSError
    with pytest.raises(expected, match=r"output/model_0000001\.pth"):
        trainer.train()
