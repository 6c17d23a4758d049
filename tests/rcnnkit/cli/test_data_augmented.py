"""`rcnnkit data show --augmented`: what a training sees, from its config."""

import cv2
import numpy as np
import pytest

from detectron2.data import DatasetCatalog
from rcnnkit.cli.data_augmented import chosen
from rcnnkit.cli.main import main
from tests.rcnnkit.runs import forget_data
from tests.rcnnkit.tiny import CONFIG, write_data_set

ON = "RCNNKIT.AUGMENTATION"
COPY_PASTE = ["INPUT.MASK_FORMAT", "bitmask", f"{ON}.COPY_PASTE.PROB", "1.0"]
TILE, CAPTION, GAP = 64, 18, 6


@pytest.fixture
def show(tmp_path):
    """Draw the four images of 64×64 pixels with a bright and a dark square; returns the exit status and the sheet."""
    data = tmp_path / "data"
    data.mkdir()
    write_data_set(data)
    before = set(DatasetCatalog.list())

    def drawn(*more: str, config: str = CONFIG, path: str = str(data)):
        out = tmp_path / "sheet.png"
        given = ["--config-file", config] if config else []
        where = ["--out", str(out), "--tile", str(TILE), "--columns", "1", "--overwrite"]
        status = main(["data", "show", path, "--augmented", *given, *where, *more])
        return status, cv2.imread(str(out)) if status == 0 else None

    yield drawn
    forget_data(*(set(DatasetCatalog.list()) - before))


def tiles(sheet: np.ndarray) -> list[np.ndarray]:
    """The pictures of a sheet of one column, without the captions."""
    step = TILE + CAPTION + GAP
    return [sheet[top : top + TILE] for top in range(0, len(sheet), step)]


PLAIN = ("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.RANDOM_FLIP", "none")


def test_without_augmentation_the_images_as_they_are(show, capsys):
    status, sheet = show("--plain", "--count", "1", *PLAIN)
    assert status == 0 and "1 images of" in capsys.readouterr().out
    plain, drawn = tiles(sheet)
    assert 85 < plain[:2, :2].mean() < 115, "the grey ground"
    assert {20, 240} <= set(np.unique(plain).tolist())
    assert not np.array_equal(plain, drawn)


def test_each_draw_is_another_and_the_seed_decides(show, capsys):
    more = ("--count", "2", "--draws", "3", "--plain", *PLAIN, *COPY_PASTE)
    _, sheet = show(*more, "--seed", "1")
    assert "2 images of" in (told := capsys.readouterr().out) and "3 draws each" in told
    assert len(tiles(sheet)) == 12
    plain = tiles(sheet)[:6]
    assert len({tile.tobytes() for tile in plain}) >= 4, "but for images that were drawn for themselves"
    _, again = show(*more, "--seed", "1")
    assert np.array_equal(again, sheet)
    _, other = show(*more, "--seed", "2")
    assert not np.array_equal(other, sheet)


def test_overrides_reach_the_mapper(show):
    _, sheet = show(
        "--count", "1", "--plain", *PLAIN, f"{ON}.PHOTOMETRIC.PROB", "1.0", f"{ON}.PHOTOMETRIC.BRIGHTNESS", "0.9"
    )
    _, plain = show("--count", "1", "--plain", *PLAIN)
    assert not np.array_equal(tiles(sheet)[0], tiles(plain)[0])


@pytest.mark.parametrize(
    "more, config, told",
    [
        ((), "", "--augmented: needs --config-file FILE"),
        (("--worst",), CONFIG, "--worst: not with --augmented"),
        (("--format", "coco"), CONFIG, "an entry of DATASETS.CUSTOM"),
        (("--draws", "0"), CONFIG, "--draws 0"),
        (("INPUT.MASK_FORMAT",), CONFIG, "'INPUT.MASK_FORMAT' has no value"),
        ((f"{ON}.COPY_PASTE.PROB", "1.0"), CONFIG, "INPUT.MASK_FORMAT is polygon; set it to bitmask"),
        ((f"{ON}.COPY_PAST.PROB", "1.0"), CONFIG, f"nearest: {ON}.COPY_PASTE.PROB"),
        ((), "configs/quick/none.yaml", "no such config file"),
    ],
)
def test_what_cannot_be_shown_is_one_line(show, capsys, more, config, told):
    assert show(*more, config=config) == (2, None)
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_a_name_that_is_none(show, capsys):
    assert show(path="nowhere") == (2, None)
    assert "'nowhere' is not registered" in capsys.readouterr().err


@pytest.mark.parametrize("more", [("--config-file", CONFIG), ("--draws", "2"), ("MODEL.MASK_ON", "True")])
def test_a_config_without_augmented_is_refused(tmp_path, capsys, more):
    write_data_set(tmp_path)
    assert main(["data", "show", str(tmp_path), "--out", str(tmp_path / "x.png"), *more]) == 2
    assert "say what --augmented shows" in capsys.readouterr().err


def test_chosen():
    assert chosen(3, 5, None) == [0, 1, 2] and chosen(5, 2, None) == [0, 1]
    assert sorted(chosen(5, 5, 1)) == [0, 1, 2, 3, 4] and chosen(50, 3, 1) == chosen(50, 3, 1) != [0, 1, 2]
