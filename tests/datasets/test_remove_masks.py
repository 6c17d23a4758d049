"""Partly labelled copies of a COCO file."""

import importlib.util
import json
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location(
    "remove_masks", Path(__file__).resolve().parents[2] / "datasets" / "remove_masks.py"
)
remove_masks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(remove_masks)
SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]


@pytest.fixture
def coco(tmp_path):
    """Ten objects in two images, and an image without any."""
    path = tmp_path / "all.json"
    one = {"category_id": 1, "iscrowd": 0, "bbox": [1, 1, 8, 8], "area": 64, "segmentation": SQUARE}
    path.write_text(
        json.dumps(
            {
                "images": [{"id": n, "file_name": f"{n}.png", "height": 10, "width": 10} for n in (1, 2, 3)],
                "annotations": [{**one, "id": n, "image_id": 1 + n % 2} for n in range(10)],
                "categories": [{"id": 1, "name": "square"}],
            }
        )
    )
    return path


def remove(coco, *arguments):
    return remove_masks.main([str(coco), str(coco.parent / "out"), *arguments])


def test_some_have_a_box_only_and_are_left_out_in_the_other_file(coco):
    assert remove(coco, "--share", "0.3") == 0
    before = json.loads(coco.read_text())["annotations"]
    partly, leftout = (
        json.loads((coco.parent / f"out/{name}.json").read_text())["annotations"] for name in ("partly", "leftout")
    )
    boxes_only = [one["id"] for one in partly if one["segmentation"] == []]
    assert len(boxes_only) == 3
    assert [{**one, "segmentation": SQUARE} for one in partly] == before
    assert leftout == [one for one in before if one["id"] not in boxes_only]


def test_images_without_objects_are_not_there(coco):
    """As Detectron2 takes them; of the objects of image 2 all are drawn at some share."""
    content = json.loads(coco.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == 1 or one["id"] == 1]
    for partly, leftout in (remove_masks.remove_masks(content, 0.5, seed) for seed in range(20)):
        assert [one["id"] for one in partly["images"]] == [1, 2]
        has = {one["image_id"] for one in leftout["annotations"]}
        assert [one["id"] for one in leftout["images"]] == sorted(has)


def test_an_output_that_cannot_be_written(coco, capsys):
    (coco.parent / "out").write_text("a file")
    assert remove(coco) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_seed_decides(coco):
    drawn = []
    for seed in ("0", "0", "1"):
        assert remove(coco, "--seed", seed) == 0
        drawn.append((coco.parent / "out/partly.json").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("share", ["1.5", "-0.1"])
def test_a_share_out_of_range(coco, share, capsys):
    assert remove(coco, f"--share={share}") == 2
    assert share in capsys.readouterr().err and not (coco.parent / "out").exists()


def test_what_is_not_coco(coco, capsys):
    coco.write_text("[]")
    assert remove(coco) == 2 and str(coco) in capsys.readouterr().err


def test_crowds_stay_and_objects_without_masks_are_left_out(coco):
    content = json.loads(coco.read_text())
    crowd, box_only = content["annotations"][:2]
    crowd["iscrowd"], crowd["segmentation"] = 1, {"size": [10, 10], "counts": [0, 100]}
    box_only["segmentation"] = []
    for seed in range(20):
        partly, leftout = (file["annotations"] for file in remove_masks.remove_masks(content, 0.5, seed))
        assert partly[0] == crowd == leftout[0]
        assert sum(one["segmentation"] == [] for one in partly) == 1 + 4  # of eight with masks half
        assert [one["id"] for one in leftout] == [one["id"] for one in partly if one["segmentation"]]
