"""The check finds every defect that the real data sets are known to have, and nothing in the clean one."""

from collections import Counter

import pytest

from rcnnkit.data.checks import check

pytestmark = pytest.mark.realdata


def kinds(checked) -> Counter:
    return Counter(problem.kind for problem in checked.problems)


def test_nuts_are_clean(real_data):
    checked = check(str(real_data / "nuts"))
    assert checked.problems == []
    (found,) = checked.statistics().values()
    assert (found.images, found.objects, found.classes) == (18, 165, {"date": 71, "fig": 41, "hazelnut": 53})


def test_bccd_has_two_boxes_without_area(real_data):
    problems = check(str(real_data / "bccd")).problems
    assert sorted((problem.kind, problem.file, problem.value) for problem in problems) == [
        ("box-empty", "Annotations/BloodImage_00338.xml", "[504, 337, 504, 337]"),
        ("box-empty", "Annotations/BloodImage_00343.xml", "[181, 329, 181, 329]"),
    ]


def test_balloon_is_clean(real_data):
    assert not kinds(check(str(real_data / "balloon")))


@pytest.mark.parametrize("data_format", ["auto", "yolo"])
def test_pothole_has_an_image_without_a_label_file(real_data, data_format):
    problems = check(str(real_data / "pothole"), data_format=data_format).problems
    (missing,) = [problem for problem in problems if problem.kind == "label-missing"]
    labels = {path.stem for path in (real_data / "pothole" / "train" / "labels").glob("*.txt")}
    images = {path.stem for path in (real_data / "pothole" / "train" / "images").glob("*.jpg")}
    assert {missing.file} == {f"train/images/{stem}.jpg" for stem in images - labels}


def test_coco_mini_has_unlisted_images_and_persons_without_keypoints(real_data):
    problems = check(str(real_data / "coco_mini")).problems
    unlisted = [problem.file for problem in problems if problem.kind == "image-unlisted"]
    assert len(unlisted) == 3
    assert all(file.startswith("val2017/") for file in unlisted)
    without = Counter(problem.file for problem in problems if problem.kind == "keypoints-none-labelled")
    assert sum(without.values()) == 136
    assert set(without) == {f"annotations/person_keypoints_{part}2017.json" for part in ("train", "val")}


def test_nuclei_have_masks_that_overlap(real_data):
    found = kinds(check(str(real_data / "nuclei")))
    assert found["mask-overlap"] > 0
    assert set(found) <= {"mask-overlap", "duplicate-object"}


def test_openfield_is_read_with_boxes_from_its_points(real_data):
    checked = check(str(real_data / "openfield"))
    assert not [problem for problem in checked.problems if problem.severity == "error"]


DIALECTS = ("coco_format_v1", "pascalvoc_format", "imagenet_format", "yolo_format", "labelme_format", "cvat_format")


@pytest.mark.parametrize("dialect", [*DIALECTS, "coco_format_v2", "openimages_format"])
def test_the_dialects_have_no_errors(real_data, dialect):
    folder = real_data / "formats"
    checked = check(str(folder / "gts" / dialect), images=str(folder / "images"))
    assert not [problem for problem in checked.problems if problem.severity == "error"]
    assert sum(found.objects for found in checked.statistics().values()) == 273
