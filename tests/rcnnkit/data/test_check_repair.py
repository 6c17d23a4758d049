"""What a repair makes of each fault, in numbers, and what it leaves alone."""

import json

import pytest

from rcnnkit.data.checks import check
from rcnnkit.data.checks.repaired_files import write_repaired
from rcnnkit.errors import UserError
from tests.rcnnkit.data.checked_data import draw_picture, run_length_mask, write_clean, write_json

TRAIN = "annotations/train.json"


@pytest.fixture
def root(tmp_path):
    return write_clean(tmp_path / "data")


def repaired(root, out, damage) -> tuple[dict, list[str]]:
    """The repaired training file by annotation id, and the changes."""
    content = json.loads((root / TRAIN).read_text())
    damage({annotation["id"]: annotation for annotation in content["annotations"]}, content)
    write_json(root / TRAIN, content)
    written = write_repaired(check(str(root)), out)
    assert [path.name for path in written.files] == ["train.json", "val.json"]
    lines = written.list_file.read_text().splitlines()
    assert lines == written.changes
    found = json.loads((out / "train.json").read_text())
    return {annotation["id"]: annotation for annotation in found["annotations"]}, lines


# damage to annotation 11 (polygon 10 10 … 30 25), 12 (run lengths 35 20 … 47 28) or 13 (box); what becomes of it
REPAIRS = [
    (13, {"bbox": [-4, 5, 10, 30]}, {"bbox": [0, 5, 6, 30]}),
    (13, {"bbox": [60, 40, 10, 10]}, {"bbox": [60, 40, 4, 8]}),
    (13, {"bbox": [60, 35, -10, -30]}, {"bbox": [50, 5, 10, 30]}),
    (13, {"bbox": [500, 500, 10, 10]}, None),
    (13, {"bbox": [50, 5, 0, 30]}, None),
    (13, {"bbox": [float("nan"), 5, 10, 30]}, None),
    (11, {"bbox": [10, 10, 0, 0]}, {"bbox": [10, 10, 20, 15]}),
    (11, {"bbox": [float("nan"), 10, 20, 15]}, {"bbox": [10, 10, 20, 15]}),
    (11, {"bbox": [30, 30, 20, 15]}, {"bbox": [10, 10, 20, 15]}),
    (11, {"segmentation": [[10, 10, 30, 25]]}, {"bbox": [10, 10, 20, 15], "segmentation": None}),
    (
        11,
        {"segmentation": [[10, 10, 30, 10, 30, 25, 10, 25], [1, 1, 2, 2]]},
        {"segmentation": [[10, 10, 30, 10, 30, 25, 10, 25]]},
    ),
    (12, {"bbox": [35, 20, 12, -8]}, {"bbox": [35, 20, 12, 8]}),
    (12, {"segmentation": run_length_mask(0, 0, 0, 0)}, {"bbox": [35, 20, 12, 8], "segmentation": None}),
]


@pytest.mark.parametrize(("id", "damage", "expected"), REPAIRS)
def test_what_becomes_of_an_object(root, tmp_path, id, damage, expected):
    found, lines = repaired(root, tmp_path / "out", lambda objects, _: objects[id].update(damage))
    assert any(f"{TRAIN}: annotation {id}" in line for line in lines)
    assert (id in found) == (expected is not None)
    for key, value in (expected or {}).items():
        assert found[id].get(key) == value
    assert set(found) | {id} == {11, 12, 13, 14, 15}


def test_a_polygon_is_cut_at_the_border(root, tmp_path):
    polygon = [[54, 10, 74, 10, 74, 30, 54, 30]]
    change = {"segmentation": polygon, "bbox": [54, 10, 20, 20]}
    found, lines = repaired(root, tmp_path / "out", lambda objects, _: objects[11].update(change))
    (cut,) = found[11]["segmentation"]
    assert {*zip(cut[::2], cut[1::2])} == {(54, 10), (64, 10), (64, 30), (54, 30)}
    assert found[11]["bbox"] == [54, 10, 10, 20]
    assert found[11]["area"] == 200
    assert len(lines) == 2


def test_what_is_fine_stays_as_it_is(root, tmp_path):
    before = json.loads((root / TRAIN).read_text())
    found, lines = repaired(root, tmp_path / "out", lambda objects, content: None)
    assert lines == []
    for annotation in before["annotations"]:
        assert found[annotation["id"]] == annotation
    after = json.loads((tmp_path / "out" / "train.json").read_text())
    assert [entry["name"] for entry in after["categories"]] == ["bolt", "nut", "hand"]
    assert after["categories"][2]["keypoints"] == before["categories"][2]["keypoints"]
    assert after["categories"][2]["skeleton"] == before["categories"][2]["skeleton"]
    assert [entry["file_name"] for entry in after["images"]] == ["images/a.png", "images/b.jpg", "images/c.jpg"]


def test_the_second_of_two_ids_is_renumbered(root, tmp_path):
    found, lines = repaired(root, tmp_path / "out", lambda objects, _: objects[13].update(id=11))
    assert sorted(found) == [11, 12, 14, 15, 16]
    assert found[16]["bbox"] == [50, 5, 10, 30]
    assert any("id 11 becomes 16" in line for line in lines)


def test_a_copy_is_deleted(root, tmp_path):
    found, lines = repaired(
        root, tmp_path / "out", lambda objects, content: content["annotations"].append({**objects[13], "id": 99})
    )
    assert 99 not in found
    assert any("annotation 99" in line and "the same as annotation 13" in line for line in lines)


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        ((70, 48), True),  # plainly wrong
        ((48, 64), True),  # width and height exchanged
        ((128, 96), False),  # the picture may have been labelled before it was halved
    ],
)
def test_sizes_from_the_file_only_where_nothing_else_is_meant(root, tmp_path, size, taken):
    def damage(objects, content):
        content["images"][1].update(width=size[0], height=size[1])
        objects[15].update(segmentation=run_length_mask(40, 10, 60, 30), bbox=[40, 10, 20, 20])
        content["annotations"].remove(objects[15])

    repaired(root, tmp_path / "out", damage)
    image = json.loads((tmp_path / "out" / "train.json").read_text())["images"][1]
    assert ((image["width"], image["height"]) == (64, 48)) == taken


def test_what_the_reader_cannot_take_is_told(root, tmp_path):
    _, lines = repaired(root, tmp_path / "out", lambda objects, _: objects[13].update(category_id=99))
    assert [line for line in lines if "annotation 13" in line and line.startswith("not taken over")]


def test_images_that_cannot_be_used_are_left_out(root, tmp_path):
    (root / "images" / "b.jpg").write_bytes(b"no picture")
    found, lines = repaired(root, tmp_path / "out", lambda objects, content: None)
    assert sorted(found) == [11, 12, 13]
    assert any("images/b.jpg" in line and "left out with its 2 objects" in line for line in lines)


def test_one_file_for_one_part(root, tmp_path):
    written = write_repaired(check(str(root), split="train"), tmp_path / "one.json")
    assert written.files == [tmp_path / "one.json"]
    assert written.list_file.name == "one_changes.txt"
    assert check(str(tmp_path / "one.json"), images=str(root)).parts[None].num_annotations() == 5


def test_places_that_are_refused(root, tmp_path):
    checked = check(str(root))
    with pytest.raises(UserError, match="never modified"):
        write_repaired(checked, root / "repaired")
    with pytest.raises(UserError, match="cannot hold the parts train, val"):
        write_repaired(checked, tmp_path / "one.json")
    assert not (root / "repaired").exists()


def test_a_larger_picture_than_labelled_leaves_the_size(root, tmp_path):
    draw_picture(root / "images" / "b.jpg", 5, (32, 40))  # annotation 15 does not fit into it
    repaired(root, tmp_path / "out", lambda objects, content: None)
    image = json.loads((tmp_path / "out" / "train.json").read_text())["images"][1]
    assert (image["width"], image["height"]) == (64, 48)
