"""Who may import whom: the table of the design. An exception is listed here with its reason, or it fails."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "project" / "rcnnkit_runtime" / "detectron2"
PLUGIN = ROOT / "project" / "rcnnkit"

# A package of the engine may import those of a lower rank and its own.
RANK = {
    "config": 0, "utils": 0, "layers": 1, "structures": 2, "data": 3, "modeling": 3, "solver": 3, "checkpoint": 3,
    "evaluation": 4, "model_zoo": 4, "export": 4, "engine": 5,
}  # fmt: skip
# (importing file, imported package): reason
ALLOWED_IN_RUNTIME = {
    (
        "modeling/roi_heads/fast_rcnn.py",
        "data",
    ): "the public API's federated loss reads class frequencies from the catalog",
    ("modeling/test_time_augmentation.py", "data"): "the public API puts the augmentation of pictures into modeling",
    ("utils/analysis.py", "export"): "the public API puts analysis into utils; it traces by export's adapter",
    ("utils/video_visualizer.py", "structures"): "the public API puts the drawing of structures into utils",
    ("utils/testing.py", "structures"): "the public API puts test helpers that make instances into utils",
    ("utils/testing.py", "modeling"): "the public API's test helpers build models",
    ("utils/testing.py", "model_zoo"): "the public API's test helpers build models of the zoo",
    ("utils/visualizer.py", "structures"): "the public API puts the Visualizer of structures into utils",
    ("utils/visualizer.py", "data"): "the public API's Visualizer takes a Metadata of the catalog",
}
# A folder of the plug-in may import these besides itself, `config`, `errors` and `engine_choice`.
PLUGIN_MAY = {
    "data": set(),
    "modeling": set(),
    "evaluation": set(),
    "engine": {"data", "modeling", "evaluation"},
    "inference": {"data", "modeling", "evaluation", "engine"},
    "cli": {"data", "modeling", "evaluation", "engine", "inference"},
}
LEAVES = {"compatibility", "config", "errors", "engine_choice", "files", "weight_files"}


def imported_modules(path: Path) -> set[str]:
    """Names of everything that a file imports from other packages; `from a import b` gives `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:  # `from . import x` stays inside its package
            assert node.module
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_the_runtime_never_imports_the_plugin():
    for path in files_of(ROOT / "project" / "rcnnkit_runtime"):
        assert not [name for name in imported_modules(path) if name.split(".")[0] == "rcnnkit"], path


def test_only_the_seam_names_the_runtime():
    naming = {
        path.relative_to(PLUGIN).as_posix()
        for path in files_of(PLUGIN)
        if any(name.split(".")[0] == "rcnnkit_runtime" for name in imported_modules(path))
    }
    assert naming == {"engine_choice.py"}


def runtime_violations() -> set[tuple[str, str]]:
    found = set()
    for path in files_of(RUNTIME):
        relative = path.relative_to(RUNTIME)
        own = relative.parts[0] if len(relative.parts) > 1 else None
        if own is None:
            continue
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] != "detectron2" or len(parts) < 2 or parts[1] in (own, "__version__"):
                continue
            other = parts[1]
            if RANK[other] > RANK[own] or (own == "modeling" and other == "data"):
                found.add((relative.as_posix(), other))
    return found


def test_the_runtime_imports_to_the_left_only():
    assert runtime_violations() - set(ALLOWED_IN_RUNTIME) == set()


def test_no_exception_is_listed_in_vain():
    assert set(ALLOWED_IN_RUNTIME) - runtime_violations() == set()


@pytest.mark.parametrize("folder", sorted(PLUGIN_MAY))
def test_the_plugin_keeps_its_folders_apart(folder):
    for path in files_of(PLUGIN / folder):
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] == "rcnnkit" and len(parts) > 1 and parts[1] not in LEAVES and not parts[1].startswith("__"):
                assert parts[1] in PLUGIN_MAY[folder] | {folder}, f"{path.relative_to(ROOT)} imports {name}"


def test_setup_imports_only_setuptools_and_the_standard_library():
    assert {name.split(".")[0] for name in imported_modules(ROOT / "setup.py")} <= {"setuptools", "shutil", "pathlib"}


def test_the_command_line_holds_no_model_code():
    roots = {name.split(".")[0] for name in imported_modules(ROOT / "train_net.py")}
    assert "torch" not in roots and "torchvision" not in roots
