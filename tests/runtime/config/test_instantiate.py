"""Calls from configs, and the names that configs may not give."""

import contextlib
import dataclasses
import functools
import pickle

import pytest
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

import detectron2.data.build
from detectron2.config import LazyCall, instantiate
from detectron2.config.instantiate import dump_dataclass
from detectron2.config.targets import allow_targets
from detectron2.layers import ShapeSpec


def record(**arguments):
    return arguments


def test_arguments_are_made_first():
    made = instantiate(LazyCall(record)(a=LazyCall(record)(z=1), b=[LazyCall(record)(y=2)], c={"x": 1}, d=3))
    assert made["a"] == {"z": 1} and made["b"] == [{"y": 2}] and made["d"] == 3
    assert isinstance(made["b"], ListConfig) and isinstance(made["c"], DictConfig)


def test_only_mappings_with_a_target_and_lists_are_made():
    plain = {"a": {"_target_": "torch.nn.Identity"}}
    assert instantiate(plain) is plain
    assert instantiate("text") == "text" and instantiate(None) is None
    first, second = instantiate([LazyCall(record)(z=1), 2])
    assert first == {"z": 1} and second == 2


def test_interpolations_are_resolved_and_dataclasses_are_objects_again():
    cfg = OmegaConf.create({"n": 4, "m": LazyCall(record)(a="${n}", s=ShapeSpec(channels=3))})
    assert instantiate(cfg.m) == {"a": 4, "s": ShapeSpec(channels=3)}


def test_a_target_by_name():
    layer = instantiate({"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 2})
    assert isinstance(layer, torch.nn.Linear) and layer.out_features == 2


def test_failures_name_the_target(caplog):
    with pytest.raises(ImportError, match="Linearx"):
        instantiate({"_target_": "torch.nn.Linearx"})
    with pytest.raises(AssertionError, match="does not define a callable"):
        instantiate({"_target_": "torch.nn"})
    with pytest.raises(AssertionError, match="_target_ 3"):
        instantiate({"_target_": 3})
    with pytest.raises(TypeError, match="unexpected keyword"):
        instantiate({"_target_": "torch.nn.Linear", "x": 3})
    assert "Error when instantiating torch.nn.Linear!" in caplog.text


@pytest.mark.parametrize(
    "target",
    [
        "os.mkdir",
        "builtins.open",
        "pathlib.Path",
        "detectron2.data.build.torch.load",
        "detectron2.config.LazyConfig.load",
        "detectron2.utils.env.seed_all_rng",
        "detectron2.utils.registry.locate",
        "torch.load",
        "torch.hub.load",
        "torch.utils.cpp_extension.load",
        "torch.nn.functional.torch.load",
        "torch.nn.Linear.__init__.__globals__",
        "rcnnkit.files.write_text",
        "some_project.thing",
    ],
)
def test_targets_outside_the_allow_list_are_refused(target):
    with pytest.raises(ValueError, match="allow-list") as caught:
        instantiate({"_target_": target})
    assert repr(target) in str(caught.value) and "allow_targets" in str(caught.value)


@pytest.mark.parametrize("target", ["pickle.loads", "partial", "deeper.os.system"])
def test_an_allowed_module_does_not_lend_what_it_imports(monkeypatch, target):
    monkeypatch.setattr(detectron2.data.build, "pickle", pickle, raising=False)
    monkeypatch.setattr(detectron2.data.build, "partial", functools.partial, raising=False)
    monkeypatch.setattr(detectron2.data.build, "deeper", contextlib, raising=False)
    with pytest.raises(ValueError, match="allow-list"):
        instantiate({"_target_": f"detectron2.data.build.{target}"})


def test_a_refused_target_runs_nothing(tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    (tmp_path / "stranger.py").write_text(f"open({str(canary)!r}, 'w')\ndef make(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for cfg in (
        {"_target_": "os.mkdir", "path": str(canary)},
        {"_target_": "stranger.make"},
        {"_target_": "torch.nn.Linear", "in_features": {"_target_": "os.mkdir", "path": str(canary)}},
        [{"_target_": "os.mkdir", "path": str(canary)}],
    ):
        with pytest.raises(ValueError, match="allow-list"):
            instantiate(OmegaConf.create(cfg))
    assert not canary.exists()


def test_a_package_can_be_allowed(tmp_path, monkeypatch):
    (tmp_path / "known_project.py").write_text("def make(n): return n + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"allow_targets\('known_project'\)"):
        instantiate({"_target_": "known_project.make", "n": 1})
    allow_targets("known_project")
    assert instantiate({"_target_": "known_project.make", "n": 1}) == 2
    with pytest.raises(ValueError, match="dotted name"):
        allow_targets("")


@dataclasses.dataclass
class Outer:
    inner: ShapeSpec
    many: list


def test_dataclasses_as_mappings():
    shape = {"_target_": "detectron2.layers.ShapeSpec", "channels": 3, "height": None, "width": None, "stride": None}
    dumped = dump_dataclass(Outer(ShapeSpec(channels=3), [1, ShapeSpec(channels=3)]))
    assert dumped == {"_target_": f"{__name__}.Outer", "inner": shape, "many": [1, shape]}
    for wrong in (3, Outer):
        with pytest.raises(AssertionError, match="requires an instance of a dataclass"):
            dump_dataclass(wrong)
