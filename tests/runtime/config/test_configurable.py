"""Constructors and functions that can be called with a config."""

import pytest
from omegaconf import OmegaConf

from detectron2.config import configurable, get_cfg


class Head:
    @configurable
    def __init__(self, a, b=2, *, c=3):
        self.values = (a, b, c)

    @classmethod
    def from_config(cls, cfg, extra=None):
        return {"a": cfg.VERSION, "b": extra, "c": 1}


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda cfg: Head(1), (1, 2, 3)),  # explicit
        (lambda cfg: Head(1, c=9), (1, 2, 9)),
        (Head, (2, None, 1)),
        (lambda cfg: Head(cfg, "e"), (2, "e", 1)),  # from_config takes the second
        (lambda cfg: Head(cfg=cfg, extra=5), (2, 5, 1)),
        (lambda cfg: Head(cfg, c=9), (2, None, 9)),  # what from_config does not take wins over its answer
        (lambda cfg: Head(OmegaConf.create({"VERSION": 7})), (7, None, 1)),
    ],
)
def test_class(make, values):
    assert make(get_cfg()).values == values


def test_a_subclass_uses_its_own_from_config():
    class Wider(Head):
        @classmethod
        def from_config(cls, cfg, extra=None):
            return {**super().from_config(cfg, extra), "c": 8}

    assert Wider(get_cfg()).values == (2, None, 8)


def test_from_config_with_keywords_gets_all_of_them():
    class Tunnel(Head):
        @classmethod
        def from_config(cls, cfg, **kwargs):
            return {"a": kwargs}

    assert Tunnel(get_cfg(), c=3, y=2).values == ({"c": 3, "y": 2}, 2, 3)


def test_a_config_that_is_not_first_is_an_argument():
    cfg = get_cfg()
    assert Head(1, cfg).values == (1, cfg, 3)


def test_unknown_argument():
    with pytest.raises(TypeError, match="nope"):
        Head(get_cfg(), nope=1)


def test_errors_of_classes():
    class Without:
        @configurable
        def __init__(self, a):
            pass

    class Instance(Without):
        def from_config(self, cfg):
            return {}

    class OtherName(Without):
        @classmethod
        def from_config(cls, config):
            return {}

    with pytest.raises(AttributeError, match=r"Without.*'from_config' classmethod"):
        Without(1)
    with pytest.raises(TypeError, match=r"Instance.*'from_config' classmethod"):
        Instance(1)
    with pytest.raises(TypeError, match=r"OtherName.*'cfg' as the first argument"):
        OtherName(get_cfg())


@configurable(from_config=lambda cfg, q=1: {"a": cfg.VERSION, "b": q})
def build(a, b=2, *, c=4):
    """Stands for a build function."""
    return a, b, c


def test_function():
    cfg = get_cfg()
    assert build(1) == (1, 2, 4)
    assert build(cfg) == (2, 1, 4)
    assert build(cfg, q=9, c=8) == (2, 9, 8)
    assert build(cfg=cfg) == (2, 1, 4)
    assert build.__name__ == "build" and build.from_config(cfg) == {"a": 2, "b": 1}


def test_misuse_is_an_error_where_it_is_written():
    def function(a):
        return a

    with pytest.raises(AssertionError, match="Incorrect use of @configurable"):
        configurable(function)
    with pytest.raises(AssertionError, match="Incorrect use of @configurable"):
        configurable()(function)
    with pytest.raises(AssertionError, match="must be a function"):
        configurable(from_config=3)
