"""`rcnnkit data info | show | convert | split` as a person calls them."""

import json

import cv2
import pytest
from PIL import Image

from rcnnkit.cli.main import main

# What the README of the real data says: images, objects.
REAL = {
    "nuts": {"all": (18, 165)},
    "bccd": {"together": (364, 4888)},
    "balloon": {"train": (48, 215), "val": (13, 50)},
    "nuclei": {"all": (29, 1391)},
    "pothole": {"train": (80, 110), "valid": (5, 5), "test": (5, 5)},
    "formats": {"together": (100, 273)},
    "openfield": {"all": (60, 60)},
    "coco_mini": {
        "instances_train2017": (80, 739),
        "instances_val2017": (79, 624),
        "person_keypoints_train2017": (80, 172),
        "person_keypoints_val2017": (79, 118),
    },
}


@pytest.fixture
def folder(tmp_path):
    """Twelve images from three sources, of two classes; one object is no polygon, one image has a rare class."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(12):
        name = f"images/s{number % 3}_{number}.png"
        Image.new("RGB", (40 + number, 30), (200, 30, number)).save(root / name)
        images.append({"id": number, "file_name": name, "width": 40 + number, "height": 30})
        annotation = {"id": number + 1, "image_id": number, "category_id": 1 + (number > 9), "iscrowd": 0, "area": 50}
        annotation |= {"bbox": [5, 5, 10, 10], "segmentation": [[5, 5, 15, 5, 15, 15]]}
        annotations.append(annotation)
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "labels.json").write_text(json.dumps(content))
    return root


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_info_gives_the_known_counts_without_being_told_the_format(real_data, tmp_path, capsys, name):
    assert main(["data", "info", str(real_data / name), "--json", str(tmp_path / "info.json")]) == 0
    content = json.loads((tmp_path / "info.json").read_text())
    counts = {**content["parts"], "together": content.get("together")}
    for part, (images, objects) in REAL[name].items():
        assert (counts[part]["images"], counts[part]["objects"]) == (images, objects), part
    if name == "bccd":
        assert sum(counts[part]["classes"]["RBC"] for part in ("train", "val", "test")) == 4155
    if name == "openfield":
        assert (counts["all"]["keypoints"], "4 keypoints" in capsys.readouterr().out) == (60, True)
    if name == "nuclei":
        assert counts["all"]["rle"] + counts["all"]["polygons"] == 1391
    if name == "coco_mini":
        assert (counts["instances_train2017"]["crowd"], counts["instances_val2017"]["crowd"]) == (8, 5)


def test_info_of_what_is_not_there(tmp_path, capsys):
    assert main(["data", "info", str(tmp_path / "none")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_show(folder, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    arguments = ["data", "show", str(folder), "--out", str(out), "--count", "5", "--columns", "3", "--tile", "100"]
    assert main([*arguments, "--seed", "1"]) == 0
    sheet = cv2.imread(str(out))
    assert sheet.shape[1] == 3 * 100 + 2 * 6
    assert sheet[:80, :100].std() > 20, "something is drawn"
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--plain"]) == 0
    assert cv2.imread(str(out)).shape[0] > 1.9 * sheet.shape[0], "the same without annotations above"


def test_show_the_worst(folder, tmp_path, capsys):
    content = json.loads((folder / "labels.json").read_text())
    content["annotations"][4]["bbox"] = [5, 5, -3, 10]
    content["annotations"][4]["segmentation"] = [[5, 5, 15, 5]]
    (folder / "labels.json").write_text(json.dumps(content))
    out = tmp_path / "worst.png"
    assert main(["data", "show", str(folder), "--out", str(out), "--worst", "--count", "1"]) == 0
    assert "1 images" in capsys.readouterr().out
    assert out.is_file()


def test_convert_there_and_back(folder, tmp_path, capsys):
    yolo, coco = tmp_path / "yolo", tmp_path / "coco"
    assert main(["data", "convert", str(folder), "--to", "yolo", "--out", str(yolo)]) == 0
    assert main(["data", "convert", str(yolo), "--to", "coco", "--out", str(coco), "--link"]) == 0
    before = json.loads((folder / "labels.json").read_text())
    after = json.loads((coco / "train.json").read_text())
    names = {image["id"]: image["file_name"].rsplit("/")[-1] for image in after["images"]}
    segmentations = {names[a["image_id"]]: a["segmentation"] for a in after["annotations"]}
    for image, annotation in zip(before["images"], before["annotations"], strict=True):
        assert segmentations[image["file_name"].rsplit("/")[-1]] == [pytest.approx(annotation["segmentation"][0])]
    capsys.readouterr()
    assert main(["data", "info", str(coco)]) == 0
    assert "could not be read" not in capsys.readouterr().err
    assert main(["data", "convert", str(folder), "--to", "yolo", "--out", str(yolo)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert main(["data", "convert", str(folder), "--to", "yolo", "--out", str(tmp_path / "x"), "--leave"]) == 2


def parts_of(out, *names):
    contents = [json.loads((out / f"{name}.json").read_text()) for name in names]
    return [{image["file_name"] for image in content["images"]} for content in contents]


def test_split_keeps_sources_apart_and_leaves_the_images(folder, tmp_path, capsys):
    out = tmp_path / "split"
    arguments = ["data", "split", str(folder), "--fractions", "0.67", "0.33"]
    assert main([*arguments, "--out", str(out), "--group-by", r"s(\d)_"]) == 0
    train, val = parts_of(out, "train", "val")
    assert (len(train), len(val)) == (8, 4)
    assert not {name[:9] for name in train} & {name[:9] for name in val}
    capsys.readouterr()
    assert main(["data", "info", str(out), "--images", str(folder)]) == 0
    assert "together: 12 images, 12 objects" in capsys.readouterr().out
    assert main([*arguments, "--out", str(tmp_path / "x"), "--group-by", "t_"]) == 2
    assert "finds nothing in the path images/s0_0.png" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "x"), "--names", "a", "a"]) == 2


def test_split_by_a_file_of_groups(folder, tmp_path):
    names = [image["file_name"] for image in json.loads((folder / "labels.json").read_text())["images"]]
    table = tmp_path / "groups.csv"
    table.write_text("".join(f"{name},{'one' if i < 9 else 'two'}\n" for i, name in enumerate(names)))
    out = tmp_path / "split"
    assert main(["data", "split", str(folder), "--out", str(out), "--group-by", str(table), "--copy"]) == 0
    train, val = parts_of(out, "train", "val")
    assert (len(train), len(val)) == (9, 3)
    assert all((out / name).is_file() for name in train | val)
    table.write_text("images/s0_0.png,one\n")
    assert main(["data", "split", str(folder), "--out", str(tmp_path / "x"), "--group-by", str(table)]) == 2


def test_split_shares_out_classes(folder, tmp_path):
    for seed in range(5):
        out = tmp_path / f"split{seed}"
        arguments = ["data", "split", str(folder), "--out", str(out), "--seed", str(seed), "--stratify"]
        assert main([*arguments, "--fractions", "0.5", "0.5"]) == 0
        for name in ("train", "val"):
            content = json.loads((out / f"{name}.json").read_text())
            assert sorted(a["category_id"] for a in content["annotations"]) == [1, 1, 1, 1, 1, 2]
