"""Pascal VOC's metrics: curves and matches worked out by hand, and real annotations."""

import numpy as np
import pytest
import torch

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import parse_rec, voc_ap, voc_eval
from detectron2.structures import Boxes, Instances

OBJECT = "<object><name>{}</name>{}<bndbox>{}</bndbox></object>"


def voc_folder(folder, images, split="val"):
    """A VOC folder of 100 × 100 images: {image: [(class, (xmin, ymin, xmax, ymax), difficult)]}."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{image}\n" for image in images))
    for image, objects in images.items():
        text = "<annotation><size><width>100</width><height>100</height><depth>3</depth></size>"
        for name, box, difficult in objects:
            corners = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
            text += OBJECT.format(name, f"<difficult>{difficult}</difficult>", corners)
        (folder / "Annotations" / f"{image}.xml").write_text(text + "</annotation>")
    return folder


@pytest.fixture
def small(tmp_path):
    """Three cats, one of them difficult, and a dog that nobody finds."""
    folder = voc_folder(
        tmp_path / "VOC",
        {
            "a": [("cat", (1, 1, 10, 10), 0), ("cat", (51, 51, 60, 60), 1)],
            "b": [("cat", (1, 1, 10, 10), 0), ("dog", (21, 21, 40, 40), 0)],
        },
    )
    parse_rec.cache_clear()
    return folder


def run(evaluator, per_image):
    evaluator.reset()
    for image, (boxes, scores, classes) in per_image.items():
        instances = Instances((100, 100))
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        instances.scores = torch.tensor(scores)
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        evaluator.process([{"image_id": image}], [{"instances": instances}])
    return evaluator.evaluate()


def test_average_precision_by_hand():
    recall, precision = np.array([0.5, 1.0]), np.array([1.0, 0.5])
    # area: 0.5 · 1 + 0.5 · 0.5; points: six of precision 1 (recall 0 to 0.5), five of 0.5
    assert voc_ap(recall, precision) == pytest.approx(0.75)
    assert voc_ap(recall, precision, use_07_metric=True) == pytest.approx((6 * 1.0 + 5 * 0.5) / 11)
    # a dip in precision counts as the best one to its right; recall stops at 0.4
    recall, precision = np.array([0.2, 0.2, 0.4]), np.array([1.0, 0.5, 2 / 3])
    assert voc_ap(recall, precision) == pytest.approx(0.2 + 0.2 * 2 / 3)
    assert voc_ap(recall, precision, use_07_metric=True) == pytest.approx((3 * 1.0 + 2 * 2 / 3) / 11)
    for metric in (True, False):
        assert voc_ap(np.zeros(0), np.zeros(0), metric) == 0.0


def test_matches_by_hand(small, tmp_path):
    rows = [
        "a 0.9 1 1 10 10",  # hit
        "a 0.8 1 1 10 10",  # the same object again: a miss
        "a 0.7 51 51 60 60",  # difficult: neither
        "b 0.6 1 1 10 5",  # IoU 50 / 100, not above 0.5: a miss
        "b 0.5 1 1 10 6",  # IoU 60 / 100: hit
        "b 0.4 80 80 90 90",  # nothing there: a miss
    ]
    (tmp_path / "cat.txt").write_text("\n".join(rows))
    recall, precision, ap = voc_eval(
        str(tmp_path / "{}.txt"),
        str(small / "Annotations" / "{}.xml"),
        str(small / "ImageSets" / "Main" / "val.txt"),
        "cat",
    )
    assert recall.tolist() == [0.5, 0.5, 0.5, 0.5, 1.0, 1.0]
    assert precision.tolist() == pytest.approx([1, 1 / 2, 1 / 2, 1 / 3, 2 / 4, 2 / 5])
    assert ap == pytest.approx(0.5 * 1 + 0.5 * 0.5)


@pytest.mark.parametrize(("year", "ap"), [(2012, 0.5 * 1 + 0.5 * 2 / 3), (2007, (6 * 1 + 5 * 2 / 3) / 11)])
def test_evaluator_by_hand(small, year, ap):
    name = f"voc_by_hand_{year}"
    register_pascal_voc(name, str(small), "val", year, ("cat", "dog"))
    try:
        # pixel (1, 1) of VOC is the square from 0 to 1; one false alarm between the two cats
        results = run(
            PascalVOCDetectionEvaluator(name),
            {"a": ([[0, 0, 10, 10], [30, 30, 40, 40]], [0.9, 0.8], [0, 0]), "b": ([[0, 0, 10, 10]], [0.7], [0])},
        )
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    # the dog is not found: its AP is 0
    assert dict(results["bbox"]) == pytest.approx({"AP": 50 * ap, "AP50": 50 * ap, "AP75": 50 * ap})


def test_unknown_year_and_image(small):
    register_pascal_voc("voc_1999", str(small), "val", 1999, ("cat", "dog"))
    register_pascal_voc("voc_odd", str(small), "val", 2012, ("cat", "dog"))
    try:
        with pytest.raises(AssertionError, match="1999"):
            PascalVOCDetectionEvaluator("voc_1999")
        with pytest.raises(ValueError, match="'elsewhere' is not in"):
            run(PascalVOCDetectionEvaluator("voc_odd"), {"elsewhere": ([[0, 0, 9, 9]], [0.5], [0])})
    finally:
        for name in ("voc_1999", "voc_odd"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.realdata
def test_blood_cells(real_data):
    """Real annotations, boxes of zero width among them: what is annotated is found."""
    name = "voc_blood_cells"
    register_pascal_voc(name, str(real_data / "bccd"), "trainval", 2012, ("RBC", "WBC", "Platelets"))
    try:
        records = DatasetCatalog.get(name)
        boxes = torch.tensor([ann["bbox"] for record in records for ann in record["annotations"]])
        # VOC's corners are the same pixel: a box of one pixel, or of none in the other direction
        assert int(((boxes[:, 2:] - boxes[:, :2]) <= 1).any(dim=1).sum()) >= 2
        per_image = {
            record["image_id"]: (
                [ann["bbox"] for ann in record["annotations"]],
                [1.0 - 0.001 * i for i in range(len(record["annotations"]))],
                [ann["category_id"] for ann in record["annotations"]],
            )
            for record in records
        }
        results = run(PascalVOCDetectionEvaluator(name), per_image)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results["bbox"]["AP"] == pytest.approx(100.0, abs=0.2)  # a few cells are annotated twice
