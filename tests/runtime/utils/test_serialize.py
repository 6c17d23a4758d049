"""Wrapped objects in other processes."""

import pickle

import pytest

from detectron2.utils.serialize import PicklableWrapper


def test_closures_travel():
    offset = 4
    wrapped = PicklableWrapper(lambda x: x + offset)
    assert pickle.loads(pickle.dumps(wrapped))(2) == 6


def test_attributes_travel():
    class Local:
        attr = 3

    again = pickle.loads(pickle.dumps(PicklableWrapper(Local())))
    assert again.attr == 3
    with pytest.raises(AttributeError):
        again.nope  # noqa: B018


def test_wrapping_twice_wraps_once():
    inner = PicklableWrapper(len)
    assert PicklableWrapper(inner)._obj is len
