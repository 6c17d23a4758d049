"""Which names of Detectron2 a project uses, read from its sources without running them.

The names come from `detectron2_names.json`: for each module of Detectron2 those that the built-in engine supports and
those outside its scope, as `tools/compatibility.py` found them. `"*"` stands for every name of a module.
"""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rcnnkit.errors import UserError, nearest

SUPPORTED, OUT_OF_SCOPE, UNKNOWN = "supported", "out of scope", "unknown to Detectron2"
NAMES_FILE = Path(__file__).with_name("detectron2_names.json")
SKIPPED_FOLDERS = {".git", ".venv", "venv", "node_modules", "__pycache__", "build", "dist"}


@dataclass(frozen=True, order=True)
class Use:
    """One use of one name: its full path, and where."""

    name: str
    file: str
    line: int


@cache
def known_names() -> dict[str, dict[str, str]]:
    """Module → name → SUPPORTED or OUT_OF_SCOPE."""
    modules = json.loads(NAMES_FILE.read_text(encoding="utf-8"))
    return {
        module: {
            **dict.fromkeys(lists.get(SUPPORTED, "").split(), SUPPORTED),
            **dict.fromkeys(lists.get(OUT_OF_SCOPE, "").split(), OUT_OF_SCOPE),
        }
        for module, lists in modules.items()
    }


def status_of(name: str) -> str:
    """SUPPORTED, OUT_OF_SCOPE or UNKNOWN of a full name such as `detectron2.layers.ShapeSpec`, or of a module."""
    modules = known_names()
    if name in modules:
        statuses = set(modules[name].values())
        return OUT_OF_SCOPE if statuses == {OUT_OF_SCOPE} else SUPPORTED
    module, _, last = name.rpartition(".")
    while module:
        if module in modules:
            found = modules[module].get("*") or modules[module].get(last)
            return found or UNKNOWN
        module, _, last = module.rpartition(".")
    return UNKNOWN


def nearest_known(name: str) -> str | None:
    """The known name that a misspelt one probably means: of the same module, else the same last part elsewhere."""
    module, _, last = name.rpartition(".")
    modules = known_names()
    if module in modules and (close := nearest(last, modules[module], 1)):
        return f"{module}.{close[0]}"
    elsewhere = [f"{other}.{last}" for other, names in modules.items() if last in names]
    return min(elsewhere, key=len) if elsewhere else None


def uses_in_project(path: Path) -> list[Use]:
    """Every use of a name of Detectron2 below a folder, or in one file, in the order of files and lines.

    Raises:
        UserError: nothing is there, no Python file is there, or one cannot be read or parsed.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    files = [path] if path.is_file() else sorted(_python_files(path))
    if not files:
        raise UserError(f"{path}: the folder holds no Python file")
    return [use for file in files for use in uses_in_file(file, path)]


def _python_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*.py"):
        if not SKIPPED_FOLDERS & set(file.relative_to(folder).parts):
            yield file


def uses_in_file(file: Path, root: Path) -> list[Use]:
    """The uses in one file, named relative to `root`.

    Raises:
        UserError: the file cannot be read or parsed.
    """
    shown = file.name if file == root else file.relative_to(root).as_posix()
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as Python: {error}") from error
    aliases: dict[str, str] = {}
    found: dict[tuple[str, int], Use] = {}
    for name, line in (*_imported(tree, aliases), *_reached(tree, aliases)):
        found.setdefault((name, line), Use(name, shown, line))
    return sorted(found.values(), key=lambda use: (use.line, use.name))


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "detectron2"


def _imported(tree: ast.AST, aliases: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Names that import statements ask for; enters modules into `aliases` under the names they get in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name):
                    aliases[alias.asname or "detectron2"] = alias.name if alias.asname else "detectron2"
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and _is_ours(node.module):
            for alias in node.names:
                name = node.module if alias.name == "*" else f"{node.module}.{alias.name}"
                if name in known_names():
                    aliases[alias.asname or alias.name] = name
                yield name, node.lineno


def _reached(tree: ast.AST, aliases: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Names that are reached as attributes of imported modules: `comm.get_rank()`, `detectron2.layers.cat`."""
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    assigned |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        parts: list[str] = []
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            parts.insert(0, root.attr)
            root = root.value
        # A name that the file also assigns may be anything by now.
        if isinstance(root, ast.Name) and root.id in aliases and root.id not in assigned:
            yield _resolve(aliases[root.id], parts), node.lineno


def _resolve(module: str, parts: list[str]) -> str:
    """The module's first attribute that is not itself a module: what follows belongs to an object."""
    for part in parts:
        name = f"{module}.{part}"
        if name not in known_names():
            return name
        module = name
    return module
