"""`path@split`: what it stands for, and which images are held out where a folder has no parts."""

import json
from dataclasses import dataclass, field

import pytest
from PIL import Image

from rcnnkit.data import naming, splits
from rcnnkit.data.labelled import ProblemLog
from rcnnkit.data.naming import Holdout, held_out, read_part, resolve, split_name
from rcnnkit.errors import UserError


@pytest.mark.parametrize(
    ("name", "role"),
    [("train", "train"), ("valid", "val"), ("instances_val2017", "val"), ("parts-validation", "val"), ("Test", "test"),
     ("trainval", "trainval"), ("training", "train"), ("train_val", None), ("default", None), ("valley", None)],
)  # fmt: skip
def test_roles(name, role):
    assert splits.role(name) == role


COCO_NAMES = ["instances_train2017", "instances_val2017", "person_keypoints_train2017", "person_keypoints_val2017"]


@pytest.mark.parametrize(
    ("names", "asked", "keypoints", "chosen"),
    [
        (["test", "train", "valid"], "val", False, "valid"),
        (["test", "train", "valid"], "validation", False, "valid"),
        (["train", "val"], "valid", False, "val"),
        (["train2017", "val2017"], "train", False, "train2017"),
        (COCO_NAMES, "train", False, "instances_train2017"),
        (COCO_NAMES, "train", True, "person_keypoints_train2017"),
        (COCO_NAMES, "val2017", True, "person_keypoints_val2017"),
        (COCO_NAMES, "person_keypoints_val2017", False, "person_keypoints_val2017"),
    ],
)
def test_chosen_part(names, asked, keypoints, chosen):
    assert splits.choose(names, asked, "data", keypoints) == chosen


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (["train", "valid"], "tests", "data@tests: the data set has no part 'tests'; it has"),
        (["train2014", "train2017"], "train", "may be train2014 or train2017; name one"),
        (["train"], "val", "no part 'val'; it has train"),
    ],
)
def test_no_such_part(names, asked, message):
    with pytest.raises(UserError, match=message):
        splits.choose(names, asked, "data")


def test_split_name(tmp_path):
    assert split_name("a/b@train") == ("a/b", "train") and split_name("a/b") == ("a/b", None)
    (tmp_path / "a@b").mkdir()
    assert split_name(f"{tmp_path}/a@b") == (f"{tmp_path}/a@b", None)
    assert split_name(f"{tmp_path}/a@b@val") == (f"{tmp_path}/a@b", "val")


class TestHeldOut:
    RECORDS = tuple({"file_name": f"/data/{i}.png"} for i in range(50))

    def half(self, name, fraction=0.2, seed=0, records=RECORDS):
        return [record["file_name"] for record in held_out(list(records), name, Holdout(fraction, seed), "/data")]

    def test_halves_are_the_whole_and_share_nothing(self):
        train, val = self.half("train"), self.half("val")
        assert (len(train), len(val)) == (40, 10) and not set(train) & set(val)
        assert train == sorted(train, key=lambda name: int(name[6:-4]))  # order stays

    def test_the_draw_depends_on_the_seed_and_not_on_the_order(self):
        assert self.half("val") != self.half("val", seed=1)
        assert set(self.half("val")) == set(self.half("val", records=self.RECORDS[::-1]))

    def test_an_added_image_moves_at_most_one_other(self):
        more = (*self.RECORDS, {"file_name": "/data/new.png"})
        assert len(set(self.half("val")) ^ set(self.half("val", records=more)) - {"/data/new.png"}) <= 2

    def test_the_folder_may_move(self):
        elsewhere = [{"file_name": f"/else/where/{i}.png"} for i in range(50)]
        moved = held_out(elsewhere, "val", Holdout(), "/else/where")
        assert [r["file_name"][12:] for r in moved] == [name[6:] for name in self.half("val")]

    def test_neither_half_is_empty(self):
        two = self.RECORDS[:2]
        assert len(self.half("val", 0.01, records=two)) == len(self.half("train", 0.99, records=two)) == 1
        with pytest.raises(UserError, match="of 1 images none can be held out"):
            self.half("val", records=self.RECORDS[:1])
        with pytest.raises(UserError, match=r"HOLDOUT_FRACTION: 1\.5"):
            self.half("val", 1.5)


def coco(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        images = [{"id": i, "file_name": f"{i}.png", "width": 4, "height": 4} for i in range(5)]
        for image in images:
            Image.new("L", (4, 4)).save(folder / image["file_name"])
        category = [{"id": 1, "name": "nut"}]
        (folder / name).write_text(json.dumps({"images": images, "annotations": [], "categories": category}))
    return str(folder)


class TestFolders:
    def test_divided(self, tmp_path):
        path = coco(tmp_path, "train.json", "val.json")
        part = resolve(f"{path}@valid")
        assert (part.split, part.held_out, part.reader.name) == ("val", None, "coco")
        with pytest.raises(UserError, match=r"has the parts train, val; name one, such as .*@train"):
            resolve(path)
        with pytest.raises(UserError, match="no part 'test'"):
            resolve(f"{path}@test")

    def test_undivided(self, tmp_path):
        path = coco(tmp_path, "labels.json")
        assert (resolve(path).split, resolve(path).held_out) == (None, None)
        halves = [read_part(resolve(f"{path}@{half}"), ProblemLog()) for half in ("train", "valid")]
        assert [len(half.records) for half in halves] == [4, 1] and not halves[0].is_coco_file
        with pytest.raises(UserError, match="no part 'test'; it is not divided; train and val can be drawn"):
            resolve(f"{path}@test")

    def test_a_single_file_can_be_divided_whatever_its_name(self, tmp_path):
        path = coco(tmp_path, "train.json", "val.json")
        assert resolve(f"{path}/train.json@val").held_out == "val"

    def test_the_only_part_needs_no_name(self, tmp_path):
        assert resolve(coco(tmp_path, "train.json")).split == "train"

    def test_labellings_of_the_same_part(self, tmp_path):
        path = coco(tmp_path, "instances_train.json", "person_keypoints_train.json")
        part = resolve(path)
        assert part.split == "instances_train" and "labels person_keypoints_train" in part.describe()
        assert resolve(path, keypoints=True).split == "person_keypoints_train"

    def test_labellings_of_the_whole(self, tmp_path):
        path = coco(tmp_path, "instances_alice.json", "instances_bob.json")
        assert resolve(path).split == "alice" and resolve(f"{path}@bob").split == "bob"
        drawn = resolve(f"{path}@val")
        assert (drawn.split, drawn.held_out) == ("alice", "val") and "labels bob" in drawn.describe()

    def test_a_path_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match="no such file or folder"):
            resolve(str(tmp_path / "gone"))

    def test_other_formats_are_told(self, tmp_path, monkeypatch):
        @dataclass
        class Other:
            name: str = "other"
            seen: list = field(default_factory=list)

            def recognise(self, tree):
                return "it smells"

        from rcnnkit.data.formats import Recognition

        path = coco(tmp_path, "labels.json")
        known = naming.recognise
        monkeypatch.setattr(naming, "recognise", lambda tree: [*known(tree), Recognition(Other(), "it smells")])
        assert "also seen, not used: other (it smells)" in resolve(path).describe()
