"""`rcnnkit info`: what this installation runs on, and what to do about each problem found."""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Iterator

import torch

import rcnnkit
from rcnnkit.engine_choice import MEND_TORCHVISION, engine_line

PACKAGES = ("torch", "torchvision", "numpy", "fvcore", "iopath", "omegaconf", "pycocotools", "faster-coco-eval",
            "opencv-python", "opencv-python-headless", "Pillow", "setuptools")  # fmt: skip
OPENCV_BUILDS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options: it prints everything it knows."""


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 when nothing is wrong, 1 when a problem was found."""
    rows = [
        ("rcnnkit", rcnnkit.__version__),
        ("engine", engine_line().removeprefix("engine: ")),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("platform", platform.platform()),
        *((name, _version(name) or "not installed") for name in PACKAGES),
        *_devices(),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    problems = list(find_problems())
    for problem in problems:
        print(f"problem: {problem}")
    print("problems: none" if not problems else f"problems: {len(problems)}")
    return 1 if problems else 0


def find_problems() -> Iterator[str]:
    """One line for each thing that would break training later: what it is and the command that mends it."""
    yield from check_opencv([name for name in OPENCV_BUILDS if _version(name)])
    yield from check_torchvision_operators()
    if torch.cuda.is_available() is False and torch.version.cuda and _nvidia_driver_present():
        yield "an NVIDIA driver is there but torch cannot use it: compare its CUDA version with torch.version.cuda"


def check_opencv(builds: list[str]) -> Iterator[str]:
    """opencv's builds write the same files, so two of them together leave a mixture of both."""
    if len(builds) > 1:
        others = " ".join(name for name in builds if name != "opencv-python-headless")
        yield (
            f"{len(builds)} builds of OpenCV are mixed ({', '.join(builds)}): "
            f"run `pip uninstall -y {' '.join(builds)}`, "
            f"then `pip install opencv-python-headless` (or, where windows are needed, only one of: {others})"
        )
    try:
        import cv2

        _ = cv2.imread
    except (ImportError, AttributeError) as error:
        yield f"cv2 does not work ({error}): run `pip install --force-reinstall opencv-python-headless`"


def check_torchvision_operators() -> Iterator[str]:
    """torchvision built against another torch imports but has no compiled operators."""
    try:
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
        torchvision.ops.roi_align(torch.zeros(1, 1, 4, 4), [boxes], 2)
        if kept.tolist() != [0]:
            yield f"torchvision's non-maximum suppression gives {kept.tolist()} where [0] is right; {MEND_TORCHVISION}"
    except (ImportError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        pair = f"torchvision {_version('torchvision')} does not work with torch {torch.__version__}"
        yield f"{pair} ({reason}); {MEND_TORCHVISION}"


def _devices() -> list[tuple[str, str]]:
    rows = [("cpu threads", str(torch.get_num_threads()))]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        rows.append((f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"))
    if not torch.cuda.is_available():
        rows.append(("cuda", f"none (torch built for CUDA {torch.version.cuda}); training runs on the CPU"))
    return rows


def _nvidia_driver_present() -> bool:
    try:
        with open("/proc/driver/nvidia/version") as version:
            return bool(version.read())
    except OSError:
        return False


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
