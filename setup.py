"""Package metadata of rcnnkit; the zoo's configs travel inside the built-in engine's model_zoo package."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithConfigs(build_py):
    """Copies configs/ beside model_zoo, where an installed package (unlike a checkout) looks for them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "rcnnkit_runtime" / "detectron2" / "model_zoo" / "configs"
            shutil.copytree(ROOT / "configs", target, dirs_exist_ok=True)


setup(
    name="rcnnkit",
    version="0.1.0",
    description="Fine-tune Faster, Mask and Keypoint R-CNN: a Detectron2 plug-in that carries its own engine",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"": "project"},
    packages=find_packages("project"),
    py_modules=["rcnnkit_command"],
    package_data={
        "rcnnkit": ["py.typed", "detectron2_names.json"],
        "rcnnkit_runtime": ["py.typed"],
        "rcnnkit_runtime.detectron2.config": ["defaults/*.yaml"],
        "rcnnkit_runtime.detectron2.data.datasets": ["*.json.gz"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["rcnnkit=rcnnkit_command:main"]},
    install_requires=[
        "torch>=2.10",
        "torchvision>=0.25",
        "numpy>=1.26",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.9",
        "omegaconf>=2.1,<2.4",
        "yacs>=0.1.8",
        "PyYAML>=6",
        "pycocotools>=2.0.8",
        "faster-coco-eval>=1.6.5",
        "opencv-python-headless>=4.8",
        "Pillow>=10",
        "matplotlib>=3.8",
        "tabulate>=0.9",
        "termcolor>=2",
        "tqdm>=4.66",
        "cloudpickle>=2",
        "tensorboard>=2.15",
        "safetensors>=0.4",
        "shapely>=2",  # fvcore cuts polygons with it when images are cropped
        "packaging>=23",
        "defusedxml>=0.7",
        "orjson>=3.10",  # reads annotation files of hundreds of megabytes three times faster than json
    ],
    extras_require={
        # Backbones by name. Not for all: it brings a client of a model hub, and most configs do without.
        "timm": ["timm>=1.0.20"],
        "dev": [
            "timm>=1.0.20",
            "pytest>=8",
            "pytest-cov>=5",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "mypy>=1.14",
            "types-PyYAML",
            "types-tabulate",
            "types-tqdm",
        ],
    },
)
