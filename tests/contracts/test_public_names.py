"""The names of Detectron2 that public projects import most are there, or are known to be left out and why."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rcnnkit.engine_choice import engine_line

LIST = Path(__file__).resolve().parents[2] / "tools" / "detectron2_popular_names.tsv"
REFUSAL = "Outside the built-in engine"  # how the docstring of a name begins that imports and refuses its use
MISSING = object()


def listed() -> dict[str, str]:
    """Dotted name → why it is left out, or an empty string."""
    rows = [line.split("\t") for line in LIST.read_text().splitlines()[1:]]
    return {name: "".join(reason) for name, _, *reason in rows}


def find(name: str):
    """The object behind a dotted name: a module, what it holds, or a member of that; MISSING where there is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        owner, _, member = name.rpartition(".")
        return getattr(find(owner), member, MISSING) if owner else MISSING


def is_usable(name: str) -> bool:
    found = find(name)
    if found is MISSING:
        return False
    home = sys.modules.get(name.rpartition(".")[0])
    documented = (getattr(found, "__doc__", None), getattr(home, "__doc__", None))
    return not any((text or "").startswith(REFUSAL) for text in documented)


@pytest.fixture(autouse=True)
def _builtin_only():
    if not engine_line().startswith("engine: builtin"):
        pytest.skip("the list is about the built-in engine")


@pytest.mark.parametrize("name", [name for name, reason in listed().items() if not reason])
def test_is_there(name):
    assert is_usable(name)


def test_nothing_is_left_out_in_vain():
    """A name that has come belongs among the others."""
    assert [name for name, reason in listed().items() if reason and is_usable(name)] == []


def test_the_list_is_sorted_by_use_and_without_doubles():
    rows = [line.split("\t") for line in LIST.read_text().splitlines()[1:]]
    keys = [(-int(count), name) for name, count, *_ in rows]
    assert keys == sorted(keys) and len({row[0] for row in rows}) == len(rows)


def test_the_names_import_in_any_order():
    """The last module first: no module counts on another having been imported before."""
    owners = {name.rpartition(".")[0] for name, reason in listed().items() if not reason}
    modules = sorted((owner for owner in owners if isinstance(find(owner), ModuleType)), reverse=True)
    code = f"import importlib, rcnnkit\nfor name in {modules}:\n    importlib.import_module(name)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
