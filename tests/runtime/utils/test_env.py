"""Seeds and the user's own set-up module."""

import logging
import random

import numpy as np
import pytest
import torch

from detectron2.utils import env


def _draws():
    return np.random.rand(), torch.rand(1).item(), random.random()  # noqa: NPY002


def test_torch_version():
    major, minor = env.TORCH_VERSION
    assert torch.__version__.startswith(f"{major}.{minor}.") and env.TORCH_VERSION >= (2, 0)


def test_seed_covers_every_generator():
    env.seed_all_rng(5)
    first = _draws()
    assert first != _draws()
    env.seed_all_rng(5)
    assert _draws() == first
    assert first[0] == pytest.approx(0.22199317108973948)  # as stock Detectron2 gives
    assert first[2] == pytest.approx(0.6229016948897019)


def test_generated_seeds_differ_and_are_logged(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="detectron2.utils.env")
    monkeypatch.setattr(logging.getLogger("detectron2"), "propagate", True)
    draws = set()
    for _ in range(3):
        env.seed_all_rng()
        draws.add(_draws())
    assert len(draws) == 3
    assert sum("generated random seed" in message for message in caplog.messages) == 3


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(env, "_ENV_SETUP_DONE", False)


def test_custom_environment_file_runs_once(tmp_path, monkeypatch, fresh):
    module = tmp_path / "mine.py"
    proof = tmp_path / "proof"
    module.write_text(f"def setup_environment():\n    open({str(proof)!r}, 'a').write('x')\n")
    monkeypatch.setenv("DETECTRON2_ENV_MODULE", str(module))
    env.setup_environment()
    env.setup_environment()
    assert proof.read_text() == "x"


def test_custom_environment_without_the_function(tmp_path):
    module = tmp_path / "mine.py"
    module.write_text("")
    with pytest.raises(AttributeError, match=r"mine\.py.*setup_environment"):
        env.setup_custom_environment(str(module))
