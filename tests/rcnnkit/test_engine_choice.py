"""Which package answers to `import detectron2`; each case in a process of its own, since the choice is made once."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

STOCK_INIT = """
# Every module below this package is there, and has every name.
import importlib.abc, importlib.machinery, sys

__version__ = '0.6'


class _Registry:
    def __init__(self, *_): ...

    def register(self, *_):
        return lambda registered: registered

    def list(self): return []
    def get(self, name): return self
    def set(self, **facts): ...


class _Names(type):
    def __getattr__(cls, name):
        return _named(name)


class _Anything(metaclass=_Names):
    def __init__(self, *_, **__): ...


def _named(name):
    if name.startswith("__"):
        raise AttributeError(name)
    if name == "Registry":
        return _Registry
    return _Registry() if name.endswith(("_REGISTRY", "Catalog")) else _Names(name, (_Anything,), {})


class _Modules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("detectron2."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def exec_module(self, module):
        module.__getattr__ = _named


sys.meta_path.append(_Modules())
"""
PRINT_ENGINE = "import rcnnkit, rcnnkit.engine_choice as choice; print(choice.engine_line())"


def run_python(code: str, *, engine: str | None = None, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key not in ("RCNNKIT_ENGINE", "PYTHONPATH")}
    if engine is not None:
        environment["RCNNKIT_ENGINE"] = engine
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    """A folder with a package that stands for an installed stock Detectron2."""
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text(STOCK_INIT)
    return tmp_path


def test_stock_is_chosen_when_present(stock):
    result = run_python(PRINT_ENGINE, path=stock)
    assert result.stdout.startswith("engine: detectron2 "), result.stderr
    assert str(stock) in result.stdout


def test_builtin_is_chosen_when_stock_is_absent():
    result = run_python(PRINT_ENGINE)
    assert result.stdout.startswith("engine: builtin "), result.stderr


def test_builtin_can_be_forced_beside_stock(stock):
    result = run_python(PRINT_ENGINE, engine="builtin", path=stock)
    assert result.stdout.startswith("engine: builtin "), result.stderr


def test_a_folder_without_init_is_not_an_installation(tmp_path):
    (tmp_path / "detectron2").mkdir()
    assert run_python(PRINT_ENGINE, path=tmp_path).stdout.startswith("engine: builtin ")


def test_stock_asked_for_but_absent_is_an_error():
    result = run_python(PRINT_ENGINE, engine="detectron2")
    assert result.returncode != 0
    assert "Detectron2 is not installed" in result.stderr and "RCNNKIT_ENGINE=builtin" in result.stderr


def test_broken_stock_is_an_error_that_names_the_way_out(stock):
    (stock / "detectron2" / "model_zoo.py").write_text("import pkg_resources_is_gone")
    result = run_python(PRINT_ENGINE, path=stock)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert "installed but cannot be imported" in last and "pkg_resources_is_gone" in last
    assert "RCNNKIT_ENGINE=builtin" in last


def test_broken_stock_does_not_stop_the_forced_builtin(stock):
    (stock / "detectron2" / "__init__.py").write_text("raise RuntimeError('broken')")
    result = run_python(PRINT_ENGINE, engine="builtin", path=stock)
    assert result.stdout.startswith("engine: builtin "), result.stderr


def test_a_torchvision_of_another_torch_is_one_line(tmp_path):
    (tmp_path / "torchvision").mkdir()
    cause = "operator torchvision::nms does not exist"
    (tmp_path / "torchvision" / "__init__.py").write_text(f"raise RuntimeError({cause!r})\n")
    result = run_python("import sys, rcnnkit_command; sys.exit(rcnnkit_command.main())", path=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and cause in result.stderr and "pip install torch==" in result.stderr


def test_unknown_choice_lists_the_known_ones():
    result = run_python(PRINT_ENGINE, engine="tensorpack")
    assert result.returncode != 0
    assert "auto, detectron2, builtin" in result.stderr


def test_a_late_wish_for_another_engine_is_refused(stock):
    code = """
        import detectron2
        import os
        os.environ["RCNNKIT_ENGINE"] = "builtin"
        import rcnnkit
    """
    result = run_python(code, path=stock)
    assert result.returncode != 0
    assert "has imported the detectron2 engine already" in result.stderr


def test_the_choice_is_logged_once():
    code = """
        import logging
        logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
        import rcnnkit
        from rcnnkit.engine_choice import activate_engine
        activate_engine(); activate_engine()
    """
    lines = [line for line in run_python(code).stderr.splitlines() if "engine:" in line]
    assert len(lines) == 1 and lines[0].startswith("rcnnkit engine: builtin")


def test_spawned_workers_use_the_same_engine(stock, tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing
            import rcnnkit
            import detectron2


            def folder(_):
                import detectron2
                return detectron2.__file__


            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    assert pool.map(folder, [0]) == [detectron2.__file__], detectron2.__file__
                print(detectron2.__file__)
            """
        )
    )
    for engine in ("builtin", "auto"):
        environment = {**os.environ, "RCNNKIT_ENGINE": engine, "PYTHONPATH": str(stock)}
        result = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr
        assert ("rcnnkit_runtime" in result.stdout) == (engine == "builtin")


def test_runtime_path_runs_any_detectron2_project():
    printed = subprocess.run(
        [sys.executable, "-m", "rcnnkit_runtime", "path"], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()
    result = run_python("import detectron2; print(detectron2.__file__)", path=Path(printed))
    assert result.stdout.strip() == str(Path(printed) / "detectron2" / "__init__.py"), result.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "rcnnkit_runtime"], capture_output=True, text=True, timeout=60, check=False
    )
    assert wrong.returncode == 2 and wrong.stderr.startswith("usage:")
