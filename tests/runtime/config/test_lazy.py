"""Lazy configs: loading, imports between files, saving, overrides; no YAML file and no refused name runs anything."""

import dataclasses
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.layers import ShapeSpec

BASE = """
import torch
from detectron2.config import LazyCall as L
model = L(torch.nn.Conv2d)(in_channels=3, out_channels="${.in_channels}", kernel_size=1)
optimizer = dict(lr=0.1, steps=(1, 2))
number = 5
_hidden = dict(a=1)
"""


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return str(path)

    return write_file


def test_a_python_file_gives_its_public_mappings(write):
    cfg = LazyConfig.load(write("base.py", BASE))
    assert sorted(cfg) == ["model", "optimizer"]
    assert isinstance(cfg, DictConfig) and cfg.optimizer.steps == [1, 2]
    layer = instantiate(cfg.model)
    assert isinstance(layer, torch.nn.Conv2d) and layer.out_channels == 3


def test_keys_choose_what_is_returned(write):
    path = write("base.py", BASE)
    assert LazyConfig.load(path, "number") == 5
    optimizer, number = LazyConfig.load(path, ("optimizer", "number"))
    assert isinstance(optimizer, DictConfig) and optimizer.lr == 0.1 and number == 5
    with pytest.raises(KeyError, match="nope"):
        LazyConfig.load(path, "nope")


def test_a_file_changes_what_it_imports_without_changing_the_other(write):
    base = write("base.py", BASE)
    leaf = write("sub/leaf.py", "from ..base import model, optimizer as opt\nmodel.bias = False\nopt.lr = 0.2\n")
    cfg = LazyConfig.load(leaf)
    assert sorted(cfg) == ["model", "opt"] and cfg.opt.lr == 0.2 and cfg.model.bias is False
    assert "bias" not in LazyConfig.load(base).model


def test_load_rel_is_relative_to_the_file_that_calls(write):
    write("base.py", BASE)
    leaf = write("sub/leaf.py", "from detectron2.config import LazyConfig\na = LazyConfig.load_rel('../base.py')\n")
    assert LazyConfig.load(leaf).a.optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from .nope import a", r"nope\.py does not exist"),
        ("from . import base", "can only import from another config file"),
        ("from .folder import a", "can only import from another config file"),
        ("from .base import nope", "cannot import name 'nope'"),
        ("from .leaf import a", r"circle: .*leaf\.py -> .*leaf\.py"),
    ],
)
def test_bad_imports_say_what_is_wrong(write, text, message):
    write("base.py", BASE)
    write("folder/__init__.py", "a = 1")
    with pytest.raises(ImportError, match=message):
        LazyConfig.load(write("leaf.py", text))


def test_a_file_that_is_no_python_and_other_kinds(write):
    with pytest.raises(SyntaxError, match=r"bad\.py"):
        LazyConfig.load(write("bad.py", "a = ("))
    with pytest.raises(ValueError, match="has to be a python or yaml file"):
        LazyConfig.load(write("bad.txt", "a: 1"))


def test_lazy_call_refuses_what_nobody_can_call():
    with pytest.raises(TypeError, match="Got 3"):
        LazyCall(3)


def test_saves_as_yaml_and_loads_back(write, tmp_path):
    cfg = LazyConfig.load(write("base.py", BASE))
    cfg.head = LazyCall(torch.nn.Module)(shape=ShapeSpec(channels=3), act=torch.nn.ReLU, fn=torch.nn.functional.relu)
    path = str(tmp_path / "out.yaml")
    LazyConfig.save(cfg, path)
    assert not Path(f"{path}.pkl").exists()
    again = LazyConfig.load(path)
    assert again.model._target_ == "torch.nn.Conv2d"
    assert OmegaConf.to_container(again.model)["out_channels"] == "${.in_channels}"
    assert instantiate(again.model).out_channels == 3
    assert again.head.act is torch.nn.ReLU and again.head.fn is torch.nn.functional.relu
    assert instantiate(again.head.shape) == ShapeSpec(channels=3)


def test_a_config_that_yaml_cannot_hold_is_pickled_beside_a_readable_file(tmp_path, caplog):
    path = str(tmp_path / "out.yaml")
    LazyConfig.save(LazyCall(torch.nn.Module)(a=lambda x: x, b=3), path)
    assert Path(f"{path}.pkl").is_file() and "cloudpickle" in caplog.text
    assert "b: 3" in Path(path).read_text()
    with pytest.raises(ValueError, match="cannot-be-loaded"):
        LazyConfig.load(path)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir ['{canary}']",
        "!!python/object/new:os.mkdir ['{canary}']",
        "!!python/name:os.mkdir ''",
        "!!python/module:antigravity ''",
        "!!python/object:os.PathLike {{}}",
        "!!python/object:torch.nn.Linear {{in_features: 1}}",
    ],
)
def test_yaml_runs_nothing(write, tmp_path, value):
    canary = tmp_path / "canary"
    path = write("evil.yaml", "a: " + value.format(canary=canary))
    with pytest.raises(ValueError, match=r"evil\.yaml"):
        LazyConfig.load(path)
    assert not canary.exists()


def test_dataclasses_of_stock_files_are_read(write):
    path = write("a.yaml", "s: !!python/object:detectron2.layers.shape_spec.ShapeSpec {channels: 2}\n")
    assert instantiate(LazyConfig.load(path).s) == ShapeSpec(channels=2)


# Recorded with Hydra's parser, which stock Detectron2 uses.
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("'x y'", "x y"),
        ("x y", "x y"),
        (" 3", 3),
        ("null", None),
        ("None", "None"),
        ("True", True),
        ("a/b:c", "a/b:c"),
        ("[1,[2,b]]", [1, [2, "b"]]),
        ("{b:{c:1}}", {"b": {"c": 1}}),
        ("${b.c}", "${b.c}"),
        ("'${b.c}'", "${b.c}"),
        ('"1"', "1"),
        ("-3", -3),
        ("", ""),
        ("detectron2://I/R-50.pkl", "detectron2://I/R-50.pkl"),
    ],
)
def test_overrides_read_values_as_hydra_does(text, value):
    cfg = LazyConfig.apply_overrides(OmegaConf.create({"b": {"c": 2}}), [f"a.new={text}"])
    assert OmegaConf.to_container(cfg, resolve=False) == {"b": {"c": 2}, "a": {"new": value}}


def test_overrides_change_in_place_and_merge_mappings():
    cfg = OmegaConf.create({"m": {"k": 1, "s": [1, 2]}})
    assert LazyConfig.apply_overrides(cfg, ["m={q: 5}", "+m.k=2", "m.s=[]"]) is cfg
    assert cfg == {"m": {"k": 2, "q": 5, "s": []}}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a.b", ValueError, "path.to.key=value"),
        ("=3", ValueError, "path.to.key=value"),
        ("a.b=(1,2)", ValueError, r"write lists as \[1,2\]"),
        ("~a.b", NotImplementedError, "deletion"),
        ("a.b.c=1", KeyError, "a.b is not a config"),
    ],
)
def test_bad_overrides_name_themselves(text, kind, message):
    with pytest.raises(kind, match=message):
        LazyConfig.apply_overrides(OmegaConf.create({"a": {"b": 1}}), [text])


def test_to_py_shows_calls():
    cfg = OmegaConf.create({"b": 2, "x": {"s": 'a"b', "n": None}}, flags={"allow_objects": True})
    cfg.m = LazyCall(torch.nn.Conv2d)(out="${b}", act=torch.nn.ReLU, inner=[LazyCall(torch.nn.ReLU)()], d={"k": 1})
    assert LazyConfig.to_py(cfg).splitlines() == [
        "cfg.b = 2",
        'cfg.m = torch.nn.Conv2d(act=torch.nn.ReLU, d={"k": 1}, inner=[torch.nn.ReLU()], out=2)',
        "cfg.x.n = None",
        'cfg.x.s = "a\\"b"',
    ]
    assert LazyConfig.to_py(cfg.x, prefix="").splitlines()[0] == "n = None"


@dataclasses.dataclass
class Pair:
    first: int = 1
    second: list = dataclasses.field(default_factory=list)


def test_a_dataclass_is_called_by_name():
    cfg = LazyCall(Pair)(first=4)
    assert cfg._target_ == f"{__name__}.Pair"
    assert instantiate(cfg) == Pair(first=4)
