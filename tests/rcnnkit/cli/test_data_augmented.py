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

    drawn.data = data
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


def files(show) -> list[np.ndarray]:
    """The four images, as PLAIN leaves them."""
    return [cv2.imread(str(show.data / f"{number}.png")) for number in range(1, 5)]


def test_the_images_are_those_that_were_chosen(show):
    """In the order of the file, or with a seed in its own, here one that begins with another than the first."""
    other = next(seed for seed in range(20) if chosen(4, 3, seed)[0] != 0)
    for more, seed in (((), None), (("--seed", str(other)), other)):
        _, sheet = show("--count", "3", "--plain", *PLAIN, *more)
        for tile, index in zip(tiles(sheet)[:3], chosen(4, 3, seed), strict=True):
            assert np.array_equal(tile, files(show)[index])


def test_the_seed_decides_the_draws_of_an_image_too(show):
    """Two seeds that choose the same image first."""
    first, second = [seed for seed in range(20) if chosen(4, 1, seed) == [0]][:2]
    light = (f"{ON}.PHOTOMETRIC.PROB", "1.0", f"{ON}.PHOTOMETRIC.BRIGHTNESS", "0.5")
    sheets = [show("--count", "1", "--seed", str(seed), *PLAIN, *light)[1] for seed in (first, second, first)]
    assert np.array_equal(sheets[0], sheets[2]) and not np.array_equal(sheets[0], sheets[1])


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_colours_are_those_of_the_file_whatever_the_order_of_channels(show, image_format):
    red = np.full((64, 64, 3), (10, 20, 200), dtype=np.uint8)
    cv2.imwrite(str(show.data / "1.png"), red)
    _, sheet = show("--count", "1", "--plain", *PLAIN, "INPUT.FORMAT", image_format)
    assert np.array_equal(tiles(sheet)[0], red)


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
