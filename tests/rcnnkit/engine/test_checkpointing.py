"""Pickled weights are read without running code, whatever the protocol."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from rcnnkit.errors import UserError
from rcnnkit.weight_files import check_pickle

WEIGHTS = {"model": {"conv1_w": np.ones((2, 3), np.float32), "step": np.int64(3), "names": ["a", None, 1.5, b"x"]}}


class Call:
    """Pickles into a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_pass(tmp_path, protocol):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(WEIGHTS, protocol=protocol))
    check_pickle(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_refused_and_not_made(tmp_path, protocol):
    canary = tmp_path / "canary"
    path = tmp_path / "weights.pkl"
    # the arrays before it put harmless names into the memo, where a scan of strings could be misled
    path.write_bytes(pickle.dumps({**WEIGHTS, "evil": Call(Path.touch, canary)}, protocol=protocol))
    with pytest.raises(UserError, match="holds code"):
        check_pickle(path)
    assert not canary.exists()


def test_truncated(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(WEIGHTS)[:40])
    with pytest.raises(UserError, match="truncated"):
        check_pickle(path)
