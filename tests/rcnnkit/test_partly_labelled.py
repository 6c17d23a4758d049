"""train_net.py on data of which some objects have a box only."""

import json

import pytest

from tests.rcnnkit import runs, tiny


def strip(file, output, every: int = 3) -> int:
    """Write a COCO file without the outlines of every third object, half of them by an empty list; returns how many."""
    content = json.loads(file.read_text())
    stripped = content["annotations"][::every]
    for number, annotation in enumerate(stripped):
        if number % 2:
            annotation["segmentation"] = []
        else:
            del annotation["segmentation"]
    output.write_text(json.dumps(content))
    return len(stripped)


@pytest.fixture
def forget():
    yield
    runs.forget_data("part", "whole")


def check_run(folder, data, whole: int, stripped: int, images: int, capfd) -> None:
    steps = images // 2 + 1
    arguments = runs.train_net(
        folder, data, "MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.NUM_CLASSES", "3", "SOLVER.MAX_ITER", str(steps),
        "DATALOADER.ASPECT_RATIO_GROUPING", "False", "INPUT.RANDOM_FLIP", "none",
    )  # fmt: skip
    assert runs.run_here(arguments) == 0, capfd.readouterr().err[-2000:]
    log = (folder / "output" / "log.txt").read_text()
    assert (
        f"part: {images} images (0 without objects), {whole} objects ({stripped} with a box only, "
        f"{whole - stripped} with a mask, 0 with keypoints)"
    ) in log
    assert (
        f"the first {images} images: {whole} objects to learn ({whole - stripped} with a mask); left out: nothing"
    ) in log
    assert all(line["loss_mask"] > 0 for line in runs.metrics(folder / "output"))
    assert "Filtered" not in log and "removed" not in log.lower()


def test_objects_with_a_box_only_train(tmp_path, forget, capfd):
    file = tiny.write_data_set(tmp_path)
    content = json.loads(file.read_text())
    content["categories"].append({"id": 3, "name": "third"})
    file.write_text(json.dumps(content))
    part = tmp_path / "part.json"
    stripped = strip(file, part)
    check_run(tmp_path, {"part": (part, tmp_path), "whole": (file, tmp_path)}, 8, stripped, 4, capfd)


@pytest.mark.realdata
def test_nuts_with_a_third_of_its_objects_stripped(tmp_path, forget, real_data, capfd):
    images = real_data / "nuts" / "images"
    whole = real_data / "nuts" / "trainval.json"
    part = tmp_path / "part.json"
    stripped = strip(whole, part)
    assert stripped == 55
    check_run(tmp_path, {"part": (part, images), "whole": (whole, images)}, 165, stripped, 18, capfd)
