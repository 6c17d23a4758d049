"""Registries and import by name."""

import collections
import json

import pytest
import torch

from detectron2.utils.registry import Registry, _convert_target_to_string, locate


def test_register_both_ways_and_get():
    registry = Registry("HEAD")

    @registry.register()
    class BoxHead:
        pass

    def mask_head():
        pass

    registry.register(mask_head)
    assert registry.get("BoxHead") is BoxHead and registry.get("mask_head") is mask_head
    assert "BoxHead" in registry and dict(registry) == {"BoxHead": BoxHead, "mask_head": mask_head}
    with pytest.raises(AssertionError, match="BoxHead"):
        registry.register(BoxHead)


def test_miss_lists_names_nearest_first():
    registry = Registry("HEAD")
    for name in ("Zebra", "StandardROIHead", "StandardROIHeads"):
        registry._do_register(name, object())
    with pytest.raises(KeyError, match=r"'StandarRoiHeads'.*'HEAD'.*: StandardROIHeads, StandardROIHead, Zebra"):
        registry.get("StandarRoiHeads")


def test_miss_in_an_empty_registry():
    with pytest.raises(KeyError, match="nothing yet"):
        Registry("EMPTY").get("x")


@pytest.mark.parametrize(
    ("name", "found"),
    [("torch.nn.Linear", torch.nn.Linear), ("json.JSONDecoder.decode", json.JSONDecoder.decode), ("torch", torch)],
)
def test_locate(name, found):
    assert locate(name) is found


@pytest.mark.parametrize(
    ("name", "part"), [("nope.x", "nope"), ("torch.nope", "nope"), ("torch.nn.Linear.no", "no"), ("", "empty")]
)
def test_locate_names_the_part_that_failed(name, part):
    with pytest.raises(ImportError, match=f"'{name}'.*{part}"):
        locate(name)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (torch.nn.Linear, "torch.nn.Linear"),
        (torch.optim.SGD, "torch.optim.SGD"),
        (json.JSONDecoder.decode, "json.JSONDecoder.decode"),
        (collections.OrderedDict, "collections.OrderedDict"),
    ],
)
def test_target_names_are_short_and_lead_back(target, name):
    assert _convert_target_to_string(target) == name
    assert locate(name) is target
