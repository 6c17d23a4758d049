"""Files, overrides and errors of CfgNode."""

import io
import os
from pathlib import Path

import pytest
import yaml

from detectron2.config import CfgNode, get_cfg, global_cfg, set_global_cfg


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write_file


def test_base_chain_is_relative_to_each_file(write):
    write("base.yaml", "VERSION: 2\nSOLVER:\n  MAX_ITER: 10\n  BASE_LR: 0.5\nINPUT:\n  FORMAT: RGB\n")
    write("sub/middle.yaml", "_BASE_: ../base.yaml\nSOLVER:\n  MAX_ITER: 20\n")
    cfg = get_cfg()
    cfg.merge_from_file(write("sub/leaf.yaml", "_BASE_: middle.yaml\nSOLVER:\n  STEPS: [3, 5]\n"))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.INPUT.FORMAT) == (20, 0.5, "RGB")
    assert cfg.SOLVER.STEPS == (3, 5)  # the default is a tuple, so a YAML list becomes one


def test_list_of_bases_merges_in_order(write):
    write("a.yaml", "SOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 4}\n")
    write("b.yaml", "SOLVER: {MAX_ITER: 2}\n")
    cfg = get_cfg()
    cfg.merge_from_file(write("c.yaml", "_BASE_: [a.yaml, b.yaml]\nVERSION: 2\n"))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH) == (2, 4)


def test_absolute_base(write):
    base = write("base.yaml", "SEED: 3\n")
    cfg = get_cfg()
    cfg.merge_from_file(write("sub/leaf.yaml", f"_BASE_: {base}\nVERSION: 2\n"))
    assert cfg.SEED == 3


def test_circular_base_is_refused(write):
    write("a.yaml", "_BASE_: b.yaml\n")
    with pytest.raises(ValueError, match=r"is its own _BASE_"):
        get_cfg().merge_from_file(write("b.yaml", "_BASE_: a.yaml\n"))


def test_missing_base_names_both_files(write):
    with pytest.raises(FileNotFoundError, match=r"leaf\.yaml.*nope\.yaml"):
        get_cfg().merge_from_file(write("leaf.yaml", "_BASE_: nope.yaml\n"))


def test_missing_file():
    with pytest.raises(AssertionError, match=r"'nope\.yaml' does not exist"):
        get_cfg().merge_from_file("nope.yaml")


def test_unknown_key_in_a_file_names_key_file_and_nearest_and_merges_nothing(write):
    cfg = get_cfg()
    path = write("typo.yaml", "VERSION: 2\nSEED: 9\nSOLVER:\n  MAX_ITERS: 10\n")
    with pytest.raises(KeyError) as caught:
        cfg.merge_from_file(path)
    message = str(caught.value)
    assert "'SOLVER.MAX_ITERS'" in message and path in message and "'SOLVER.MAX_ITER'?" in message
    assert cfg == get_cfg()


@pytest.mark.parametrize("kind", [KeyError, AssertionError])
def test_unknown_override_names_key_and_nearest(kind):
    with pytest.raises(kind, match=r"'MODEL.WEIGHT' in the command-line overrides; did you mean 'MODEL.WEIGHTS'"):
        get_cfg().merge_from_list(["MODEL.WEIGHT", "x"])


def test_override_without_value():
    with pytest.raises(AssertionError, match="odd length"):
        get_cfg().merge_from_list(["SEED"])


def test_overrides_read_literals():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.STEPS", "[1, 2]", "DATASETS.TRAIN", "('a',)", "SOLVER.BASE_LR", "0.5", "SEED", 4])
    assert (cfg.SOLVER.STEPS, cfg.DATASETS.TRAIN, cfg.SOLVER.BASE_LR, cfg.SEED) == ((1, 2), ("a",), 0.5, 4)


def test_wrong_type_names_file_and_key(write):
    path = write("type.yaml", "VERSION: 2\nSOLVER:\n  MAX_ITER: many\n")
    with pytest.raises(ValueError, match=r"type\.yaml.*SOLVER\.MAX_ITER"):
        get_cfg().merge_from_file(path)


@pytest.mark.parametrize("text", ["- 1\n", "just text\n", "A: [1\n", "SEED: !!python/object/apply:os.getcwd []\n"])
def test_files_that_are_not_plain_mappings(write, text):
    with pytest.raises(ValueError, match=r"bad\.yaml"):
        get_cfg().merge_from_file(write("bad.yaml", text))


def test_a_file_runs_no_code(write, tmp_path):
    proof = tmp_path / "ran"
    path = write("evil.yaml", f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{proof}']\n")
    with pytest.raises(ValueError, match=r"evil\.yaml"):
        get_cfg().merge_from_file(path, allow_unsafe=True)
    assert not os.path.exists(proof)


def test_version_that_is_no_number_is_refused(write):
    with pytest.raises(ValueError, match=r"odd\.yaml.*VERSION.*'two'"):
        get_cfg().merge_from_file(write("odd.yaml", "VERSION: two\n"))


def test_base_at_an_address_is_opened(write, monkeypatch):
    monkeypatch.setattr(
        CfgNode, "_open_cfg", classmethod(lambda cls, name: io.StringIO(Path(served.get(name, name)).read_text()))
    )
    served = {"https://example.org/base.yaml": write("downloaded.yaml", "SEED: 8\n")}
    cfg = get_cfg()
    cfg.merge_from_file(write("leaf.yaml", "_BASE_: https://example.org/base.yaml\nVERSION: 2\n"))
    assert cfg.SEED == 8


def test_newer_version_is_refused(write):
    with pytest.raises(AssertionError, match="v3"):
        get_cfg().merge_from_file(write("new.yaml", "VERSION: 3\n"))


def test_dump_loads_back_to_the_same_config(write):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("a", "b")
    cfg.SOLVER.WEIGHT_DECAY_BIAS = None
    other = get_cfg()
    other.merge_from_file(write("dumped.yaml", cfg.dump()))
    assert other.dump() == cfg.dump()  # tuples inside tuples come back as lists, as YAML has no tuples
    assert (other.DATASETS, other.SOLVER) == (cfg.DATASETS, cfg.SOLVER)
    assert yaml.safe_load(cfg.dump())["DATASETS"]["TRAIN"] == ["a", "b"]


def test_new_keys_where_allowed(write):
    cfg = get_cfg()
    cfg.set_new_allowed(True)
    cfg.merge_from_file(write("new.yaml", "VERSION: 2\nPROJECT:\n  KEY: 1\n"))
    assert cfg.PROJECT.KEY == 1


def test_frozen_config_refuses_changes():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.SEED = 3
    cfg.defrost()
    cfg.SEED = 3
    assert cfg.SEED == 3


def test_global_config_is_replaced_in_place():
    set_global_cfg(CfgNode({"A": 1}))
    set_global_cfg(CfgNode({"B": 2}))
    assert dict(global_cfg) == {"B": 2}
