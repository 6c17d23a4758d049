"""Partly labelled copies of a COCO file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]


@pytest.fixture
def coco(tmp_path):
    """Ten objects in two images."""
    path = tmp_path / "all.json"
    one = {"category_id": 1, "iscrowd": 0, "bbox": [1, 1, 8, 8], "area": 64, "segmentation": SQUARE}
    path.write_text(
        json.dumps(
            {
                "images": [{"id": n, "file_name": f"{n}.png", "height": 10, "width": 10} for n in (1, 2)],
                "annotations": [{**one, "id": n, "image_id": 1 + n % 2} for n in range(10)],
                "categories": [{"id": 1, "name": "square"}],
            }
        )
    )
    return path


def remove(coco, *arguments):
    command = [sys.executable, "datasets/remove_masks.py", str(coco), str(coco.parent / "out"), *arguments]
    return subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)


def test_some_have_a_box_only_and_are_left_out_in_the_other_file(coco):
    done = remove(coco, "--share", "0.3")
    assert done.returncode == 0, done.stderr
    before = json.loads(coco.read_text())["annotations"]
    partly, leftout = (
        json.loads((coco.parent / f"out/{name}.json").read_text())["annotations"] for name in ("partly", "leftout")
    )
    boxes_only = [one["id"] for one in partly if one["segmentation"] == []]
    assert len(boxes_only) == 3
    assert [{**one, "segmentation": SQUARE} for one in partly] == before
    assert leftout == [one for one in before if one["id"] not in boxes_only]


def test_the_seed_decides(coco):
    drawn = []
    for seed in ("0", "0", "1"):
        assert remove(coco, "--seed", seed).returncode == 0
        drawn.append((coco.parent / "out/partly.json").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("share", ["1.5", "-0.1"])
def test_a_share_out_of_range(coco, share):
    done = remove(coco, f"--share={share}")
    assert done.returncode == 2 and share in done.stderr and not (coco.parent / "out").exists()


def test_what_is_not_coco(coco):
    coco.write_text("[]")
    done = remove(coco)
    assert done.returncode == 2 and str(coco) in done.stderr and "Traceback" not in done.stderr
