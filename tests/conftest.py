"""Every test process has its engine chosen here, before anything imports detectron2 (RCNNKIT_ENGINE, else built-in)."""

import logging
import os
from pathlib import Path

import pytest

os.environ.setdefault("RCNNKIT_ENGINE", "builtin")
os.environ["RCNNKIT_CACHE"] = "off"  # the folder of the person who runs the tests is not theirs

import torch

from rcnnkit.engine_choice import activate_engine

REPOSITORY = Path(__file__).resolve().parents[1]
ENGINE = activate_engine()


def pytest_ignore_collect(collection_path, config):
    """The built-in engine's own tests mean nothing on stock Detectron2."""
    if ENGINE == "detectron2" and (REPOSITORY / "tests" / "runtime") in (collection_path, *collection_path.parents):
        return True
    return None


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loggers_as_before():
    """Handlers of one test, on streams that are closed after it, do not meet the messages of the next.

    That a run keeps its messages from the root logger ends too, even where a fixture of many tests made it: pytest
    listens to such a logger itself, and twice where it then propagates.
    """
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "rcnnkit")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = True


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real annotated images; tests that ask for it are skipped where it is absent."""
    folder = Path(os.environ.get("RCNNKIT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RCNNKIT_TEST_DATA")
    return folder
