"""Which names of Detectron2 the built-in engine has: writes rcnnkit's name file and docs/compatibility.md.

PYTHONPATH=/folder/with/detectron2 RCNNKIT_ENGINE=detectron2 python tools/compatibility.py record   # stock's names
python tools/compatibility.py write    # compare them with the built-in engine, write both files
python tools/compatibility.py check    # the same, but only say whether the files are current
"""

import importlib
import json
import pkgutil
import sys
import types
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ROOT / "project" / "rcnnkit" / "detectron2_names.json"
POPULAR = ROOT / "tools" / "detectron2_popular_names.tsv"
PLUGINS = ROOT / "tools" / "compatibility_plugins.md"
PAGE = ROOT / "docs" / "compatibility.md"
SUPPORTED, OUT_OF_SCOPE = "supported", "out of scope"
# The docstring of a module, class or function that stands outside the scope begins with these words.
REFUSAL = "Outside the built-in engine"
# Modules whose import runs compiled code or needs packages that Detectron2 does not: none of their names is in scope.
WHOLLY_OUTSIDE = ("detectron2._C", "detectron2.projects", "detectron2.export.c10", "detectron2.export.caffe2")
OTHERS_NAMES = ("fvcore", "iopath")
# Modules that pass on layers and functions of torch as names of their own.
LENDS_TORCH = (
    "detectron2.layers",
    "detectron2.layers.wrappers",
    "detectron2.layers.nms",
    "detectron2.layers.roi_align",
)
MISSING = object()


def modules_of_stock() -> list[str]:
    """Names of all modules of the Detectron2 on the path."""
    import detectron2

    found = [
        module.name for module in pkgutil.walk_packages(detectron2.__path__, "detectron2.", onerror=lambda _: None)
    ]
    return ["detectron2", *(name for name in sorted(found) if not name.startswith("detectron2.model_zoo.configs"))]


def names_of(module: types.ModuleType) -> list[str]:
    """Names that a project could ask the module for: its own, Detectron2's, and what fvcore and iopath lend it."""
    names = []
    for name, value in vars(module).items():
        if name.startswith("__"):
            continue
        if isinstance(value, types.ModuleType):
            home = value.__name__
        else:
            home = getattr(value, "__module__", None) or module.__name__
        lent = module.__name__ in LENDS_TORCH and not isinstance(value, types.ModuleType) and name != "Tensor"
        if home.split(".")[0] in ("detectron2", *OTHERS_NAMES, *(("torch", "torchvision") if lent else ())):
            names.append(name)
    return sorted(names)


def record() -> None:
    """Write the names of the Detectron2 on the path; none is marked as supported yet."""
    names: dict[str, dict[str, str]] = {}
    for module in modules_of_stock():
        if module.startswith(WHOLLY_OUTSIDE):
            continue
        try:
            names[module] = {OUT_OF_SCOPE: " ".join(names_of(importlib.import_module(module)))}
        except Exception:
            names[module] = {OUT_OF_SCOPE: "*"}
    names.update({module: {OUT_OF_SCOPE: "*"} for module in WHOLLY_OUTSIDE})
    NAMES.write_text(json.dumps(names, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def resolve(name: str) -> object:
    """The object of a full name on the active engine; MISSING where it cannot be imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pkgutil.resolve_name(name)
        except (ImportError, AttributeError, NotImplementedError):
            return MISSING


def is_supported(name: str) -> bool:
    """Whether the name imports on the active engine and does more than refuse."""
    found = resolve(name)
    return found is not MISSING and not refuses(found)


def refuses(found: object) -> bool:
    """Whether an object of the built-in engine is a placeholder whose use raises NotImplementedError."""
    return (getattr(found, "__doc__", None) or "").startswith(REFUSAL)


def classified() -> dict[str, dict[str, str]]:
    """The recorded names, sorted into those that the active engine supports and the others."""
    out = {}
    for module, lists in json.loads(NAMES.read_text(encoding="utf-8")).items():
        names = set(" ".join(lists.values()).split())
        if "*" in names and isinstance(found := resolve(module), types.ModuleType):
            names |= set(names_of(found))  # stock could not import this module where the names were recorded
        inside = is_supported(module)
        supported = sorted(name for name in names if inside and name != "*" and is_supported(f"{module}.{name}"))
        outside = sorted(names - set(supported))
        out[module] = {
            key: " ".join(value) for key, value in ((SUPPORTED, supported), (OUT_OF_SCOPE, outside)) if value
        }
    return out


def popular() -> list[tuple[str, int]]:
    """The names that public projects import, and how many of those looked at do, the most used first."""
    rows = [line.split("\t") for line in POPULAR.read_text(encoding="utf-8").splitlines()[1:]]
    return [(row[0], int(row[1])) for row in rows]


def page(names: dict[str, dict[str, str]]) -> str:
    """docs/compatibility.md."""
    rows = [(name, count, is_supported(name)) for name, count in popular()]
    inside = [row for row in rows if row[2]]
    total = sum(len(value.split()) for lists in names.values() for value in lists.values())
    supported = sum(len(lists.get(SUPPORTED, "").split()) for lists in names.values())
    lines = [
        "# Compatibility of the built-in engine with Detectron2",
        "",
        "This page is written by `python tools/compatibility.py write`; a test checks that it is current.",
        "",
        f"Of the {len(rows)} names that two or more of 59 public Detectron2 projects import,",
        f"**{len(inside)} are supported** and {len(rows) - len(inside)} are out of scope.",
        f"Of all {total} module-level names of Detectron2, private ones and the same object under several paths",
        f"included, {supported} are supported.",
        "",
        "- **supported**: imports from that path and behaves as in Detectron2 (for the R-CNN family and RetinaNet).",
        "- **out of scope**: rotated boxes, panoptic and semantic segmentation, Caffe2, transformers and the like. A",
        "  use ends in one clear error. Stock Detectron2 has them: install it and set `RCNNKIT_ENGINE=detectron2`.",
        "",
        "`rcnnkit compat FOLDER` reads a project's sources, without running them, and lists each name it uses with its",
        "status, file and line. It exits with 0 when all are supported.",
        "",
        PLUGINS.read_text(encoding="utf-8").strip(),
        "",
        "## What is written otherwise",
        "",
        "- TorchScript: the engine traces, it does not script; `scripting_with_instances` says so when called. Write",
        "  `adapter = TracingAdapter(model, inputs)` and `torch.jit.trace(adapter, adapter.flattened_inputs)`.",
        "- YAML runs no code, whatever `allow_unsafe` says. Under `!!python/object/apply:eval` the arithmetic of",
        "  anchor sizes is understood: numbers, lists, `+ - * / **` and `[... for x in [...]]`. Write others out.",
        "",
        "## Names by use",
        "",
        "| name | projects that import it | status |",
        "|---|---:|---|",
        *(f"| `{name}` | {count} | {SUPPORTED if fine else OUT_OF_SCOPE} |" for name, count, fine in rows),
    ]
    return "\n".join(lines) + "\n"


def contents() -> dict[Path, str]:
    """What the written files should hold."""
    names = classified()
    return {NAMES: json.dumps(names, indent=0, sort_keys=True) + "\n", PAGE: page(names)}


def stale() -> list[str]:
    """The written files that differ from what the code gives now."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in contents().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(command: str) -> int:
    """Run one of the commands above."""
    import rcnnkit  # noqa: F401  chooses the engine

    if command == "record":
        record()
    elif command == "write":
        for path, text in contents().items():
            path.write_text(text, encoding="utf-8")
    elif command == "check":
        outdated = stale()
        for path in outdated:
            print(f"{path} is not current: run `python tools/compatibility.py write`", file=sys.stderr)
        return 1 if outdated else 0
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
