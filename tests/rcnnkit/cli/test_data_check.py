"""`rcnnkit data check`: exit status, what is printed, and the files that are asked for."""

import json

import pytest

from rcnnkit.cli.main import main
from tests.rcnnkit.data.checked_data import bytes_of, write_clean, write_json


@pytest.fixture
def root(tmp_path):
    return write_clean(tmp_path / "data")


def damage(root, count: int) -> None:
    """Give `count` more objects a box without area."""
    path = root / "annotations" / "train.json"
    content = json.loads(path.read_text())
    for number in range(count):
        content["annotations"].append({**content["annotations"][2], "id": 100 + number, "bbox": [number, 5, 0, 1]})
    write_json(path, content)


def test_clean_data_exit_with_0(root, capsys):
    assert main(["data", "check", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "no problems" in printed
    assert "ERROR" not in printed
    assert "WARNING" not in printed


def test_problems_exit_with_1_and_the_first_twenty_are_shown(root, tmp_path, capsys):
    damage(root, 25)
    assert main(["data", "check", str(root), "--json", str(tmp_path / "all.json")]) == 1
    printed = capsys.readouterr().out
    assert "ERROR box-empty: 25" in printed
    assert printed.count("it has no area") == 20
    assert "and 5 more" in printed
    assert "25 errors and 0 warnings" in printed
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["counts"] == {"box-empty": 25}
    assert len(report["problems"]) == 25
    first = report["problems"][0]
    assert (first["kind"], first["file"], first["id"]) == ("box-empty", "annotations/train.json", "annotation 100")
    assert (first["field"], first["value"], first["image"]) == ("bbox", "[0, 5, 0, 1]", "images/a.png")
    assert report["statistics"]["train"]["classes"] == {"bolt": 27, "nut": 2, "hand": 1}


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_what_cannot_be_read_exits_with_2(tmp_path, capsys, path):
    (tmp_path / "empty").mkdir()
    assert main(["data", "check", str(tmp_path / path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("rcnnkit: ")
    assert len(captured.err.splitlines()) == 1


def test_fix_writes_the_repaired_data_and_the_changes(root, tmp_path, capsys):
    damage(root, 2)
    before = bytes_of(root)
    out = tmp_path / "repaired"
    assert main(["data", "check", str(root), "--fix", str(out), "--json", str(tmp_path / "all.json")]) == 1
    assert bytes_of(root) == before
    assert sorted(path.name for path in out.iterdir()) == ["changes.txt", "train.json", "val.json"]
    changes = (out / "changes.txt").read_text().splitlines()
    assert changes == json.loads((tmp_path / "all.json").read_text())["changes"]
    assert [line.split(": ")[1].split(" (")[0] for line in changes] == ["annotation 100", "annotation 101"]
    assert f"rcnnkit data check {out} --images {root}" in capsys.readouterr().out
    assert main(["data", "check", str(out), "--images", str(root)]) == 0


def test_one_part(root, capsys):
    damage(root, 1)
    assert main(["data", "check", str(root), "--split", "val"]) == 0
    assert main(["data", "check", f"{root}@train"]) == 1
    assert main(["data", "check", str(root), "--split", "test"]) == 2
    assert "train, val" in capsys.readouterr().err


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["data", "chek"])
    assert exit_.value.code == 2
    assert "check" in capsys.readouterr().err
