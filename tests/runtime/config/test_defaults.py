"""The defaults against stock Detectron2's, and the files that hold them."""

import json
from pathlib import Path

import pytest
import yaml

from detectron2.config import defaults, get_cfg
from tests.golden.cases_config import RECORDED, config_defaults

FILES = sorted(Path(defaults.__file__).parent.joinpath("defaults").glob("*.yaml"))


def test_keys_values_and_types_equal_stock():
    recorded = json.loads(RECORDED.read_text())
    # Through JSON, so that tuples and lists compare; the second member of each entry tells them apart.
    ours = json.loads(json.dumps(config_defaults()))
    assert len(recorded) == 192
    assert ours == recorded


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_has_a_comment(path):
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        key, _, rest = line.partition(":")
        is_value = rest.strip() and not line.lstrip().startswith(("#", "-"))
        assert not is_value or "  # " in rest, f"{path.name}:{number}: {key.strip()} says nothing about its meaning"


def test_every_file_is_read():
    assert [path.name for path in FILES] == sorted(defaults._FILES)


def test_a_key_in_two_files_is_refused():
    with pytest.raises(ValueError, match=r"b.yaml defines config key X a second time"):
        defaults._add({"A": {"X": 1}}, {"A": {"X": 2}}, "b.yaml")


def test_loader_runs_no_code():
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.load("!!python/object/apply:os.getcwd []", Loader=defaults._DefaultsLoader)


def test_get_cfg_copies():
    one = get_cfg()
    one.SOLVER.MAX_ITER = 7
    one.MODEL.PIXEL_MEAN[0] = -1.0
    assert get_cfg().SOLVER.MAX_ITER == 40000
    assert get_cfg().MODEL.PIXEL_MEAN[0] == 103.53
    assert not get_cfg().is_frozen()
