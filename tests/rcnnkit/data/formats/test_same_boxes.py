"""The same 273 boxes of 100 photographs in every dialect; every folder is recognised as what it is and nothing else."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from detectron2.structures import BoxMode
from rcnnkit.data.formats import READERS, reader_named
from rcnnkit.data.labelled import LabelledData, ProblemLog
from rcnnkit.data.tree import Tree

DIALECTS = [  # folder, reader, pixels by which the dialect rounds
    ("coco_format_v1", "coco", 0.01),
    ("coco_format_v2", "coco", 0.01),
    ("pascalvoc_format", "voc", 1),  # boxes count pixels from 1, which these numbers of a third tool did not
    ("imagenet_format", "voc", 1),
    ("yolo_format", "yolo", 0.01),
    ("labelme_format", "labelme", 0.01),
    ("cvat_format", "cvat", 0.01),
    ("openimages_format", "openimages", 0.01),
]

FOLDERS = {  # below the real data: the readers that recognise it
    "nuts": ["coco"],
    "bccd": ["voc"],
    "balloon": ["via"],
    "nuclei": ["masks"],
    "pothole": ["coco", "yolo"],
    "openfield": ["deeplabcut"],
    "coco_mini": ["coco"],
    **{f"formats/gts/{folder}": [reader] for folder, reader, _ in DIALECTS},
}


def boxes_by_image(data: LabelledData) -> dict[tuple[str, str], list[list[float]]]:
    """XYXY boxes by (name of the image file, class)."""
    boxes = defaultdict(list)
    for record in data.records:
        for annotation in record["annotations"]:
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            boxes[Path(record["file_name"]).name, data.classes[annotation["category_id"]]].append(list(box))
    return boxes


def true_boxes(file: Path) -> dict[tuple[str, str], list[list[float]]]:
    """The boxes of a COCO file, read without rcnnkit."""
    content = json.loads(file.read_text())
    images = {image["id"]: image["file_name"] for image in content["images"]}
    classes = {category["id"]: category["name"] for category in content["categories"]}
    boxes = defaultdict(list)
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        key = images[annotation["image_id"]], classes[annotation["category_id"]]
        boxes[key].append([x, y, x + width, y + height])
    return boxes


def assert_same_boxes(found: dict, expected: dict, tolerance: float) -> None:
    """One found box for each expected one, no edge further away than the tolerance."""
    assert {key: len(boxes) for key, boxes in found.items()} == {key: len(boxes) for key, boxes in expected.items()}
    for key, boxes in expected.items():
        left = list(found[key])
        for box in boxes:
            distance, nearest = min((max(abs(a - b) for a, b in zip(box, other, strict=True)), other) for other in left)
            assert distance <= tolerance + 1e-4, f"{key}: {box} is {distance} px from {nearest}"
            left.remove(nearest)


@pytest.mark.parametrize(("folder", "reader", "tolerance"), DIALECTS, ids=str)
def test_every_dialect_has_the_same_boxes(real_data, folder, reader, tolerance):
    root, problems = real_data / "formats", ProblemLog()
    data = reader_named(reader).read(Tree(root / "gts" / folder, root / "images"), None, problems)
    assert not problems.errors(), str(problems.errors()[0])
    assert len(data.records) == len({record["image_id"] for record in data.records}) == 100
    assert data.num_annotations() == 273 and len(data.classes) == 20
    expected = true_boxes(root / "gts" / "coco_format_v1" / "instances_default.json")
    assert_same_boxes(boxes_by_image(data), expected, tolerance)


@pytest.mark.parametrize("reader", READERS)
def test_every_folder_is_recognised_as_what_it_is(real_data, reader):
    recognised = {folder: reader_named(reader).recognise(Tree(real_data / folder)) for folder in FOLDERS}
    found = [folder for folder, reason in recognised.items() if reason is not None]
    assert found == [folder for folder, readers in FOLDERS.items() if reader in readers], recognised
