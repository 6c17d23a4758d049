"""A report of the machine and the installed versions; `python -m detectron2.utils.collect_env` prints it."""

import importlib
import os
import platform
import sys
from collections import defaultdict

import torch
from tabulate import tabulate

__all__ = ["collect_env_info"]

_ENV_MODULE_KEY = "DETECTRON2_ENV_MODULE"


def collect_torch_env() -> str:
    """How torch was built."""
    return torch.__config__.show()


def get_env_module() -> tuple[str, str]:
    """The name of the environment variable that names a set-up module, and its value."""
    return _ENV_MODULE_KEY, os.environ.get(_ENV_MODULE_KEY, "<not set>")


def _version_and_place(name: str) -> str:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken installation is what the report is for
        return f"does not import: {type(error).__name__}: {error}"
    version = getattr(module, "__version__", "unknown version")
    return f"{version} @{os.path.dirname(module.__file__)}" if module.__file__ else version


def _torchvision_operators() -> str:
    try:
        importlib.import_module("torchvision.ops")
        # The look-up fails where the binary was made for another torch.
        return f"load ({torch.ops.torchvision.nms})"
    except Exception as error:
        return f"do not load: {error}"


def _gpus() -> list[tuple[str, str]]:
    if not torch.cuda.is_available():
        return [("GPU available", "No: torch.cuda.is_available() == False")]
    by_name = defaultdict(list)
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        by_name[f"{torch.cuda.get_device_name(index)} (arch={major}.{minor})"].append(str(index))
    rows = [("GPU available", "Yes")]
    rows += [(f"GPU {','.join(indices)}", name) for name, indices in by_name.items()]
    rows.append(("CUDA of torch", str(torch.version.cuda)))
    rows.append(("CUDNN of torch", str(torch.backends.cudnn.version())))
    return rows


def collect_env_info() -> str:
    """Return a table of the platform, the versions and places of the libraries, and the GPUs; then torch's build."""
    rows = [
        ("sys.platform", sys.platform),
        ("Python", sys.version.replace("\n", "")),
        ("machine", f"{platform.machine()}, {os.cpu_count()} cores"),
        ("detectron2", f"{_version_and_place('detectron2')} (rcnnkit's built-in engine, no compiled part)"),
        get_env_module(),
        ("PyTorch", _version_and_place("torch")),
        ("PyTorch debug build", str(torch.version.debug)),
        *_gpus(),
        ("torchvision", _version_and_place("torchvision")),
        ("torchvision operators", _torchvision_operators()),
    ]
    titles = {"PIL": "Pillow"}
    for name in ("numpy", "PIL", "fvcore", "iopath", "cv2", "pycocotools", "faster_coco_eval"):
        rows.append((titles.get(name, name), _version_and_place(name)))
    return tabulate(rows) + "\n" + collect_torch_env()


def main() -> None:
    """Print the report."""
    print(collect_env_info())


if __name__ == "__main__":
    main()
