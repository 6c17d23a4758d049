"""Data sets: registering a large one, checking images, and what the loader's processes hold of it.

The data set is COCO JSON of the size of COCO's own, drawn from a seed; its image files are few pictures under many
names (hard links), since reading records opens none of them.
"""

import json
import os
import time
from pathlib import Path

import numpy as np

CORNERS = 20
CLASSES = 80
SIDE = 640  # pixels of the pictures that the JSON tells of
PICTURES = 20
DEDICATED = ("Private_Clean:", "Private_Dirty:")


def make_data_set(folder: Path, images: int, objects: int) -> None:
    """Write `folder/data.json` and `folder/images`: `objects` polygons shared by `images` images."""
    random = np.random.default_rng(0)
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    _link_pictures(folder, pictures, images, random)
    owners = np.sort(random.integers(0, images, objects)).tolist()
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    entries = []
    for start in range(0, objects, 10_000):
        count = min(10_000, objects - start)
        radius = random.uniform(5, 100, (count, 1, 1)) * random.uniform(0.7, 1, (count, CORNERS, 1))
        corners = (random.uniform(100, SIDE - 100, (count, 1, 2)) + radius * circle).round(2)
        low, high = corners.min(axis=1), corners.max(axis=1)
        boxes = np.concatenate([low, high - low], axis=1).round(2).tolist()
        classes = random.integers(1, CLASSES + 1, count).tolist()
        for number, outline in enumerate(corners.reshape(count, -1).tolist()):
            box = boxes[number]
            entries.append(
                {"segmentation": [outline], "area": box[2] * box[3], "iscrowd": 0, "image_id": owners[start + number],
                 "bbox": box, "category_id": classes[number], "id": start + number + 1}
            )  # fmt: skip
    listed = [{"file_name": f"{n:012}.jpg", "height": SIDE, "width": SIDE, "id": n} for n in range(images)]
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, CLASSES + 1)]
    content = {"images": listed, "annotations": entries, "categories": categories}
    (folder / "data.json").write_text(json.dumps(content))


def _link_pictures(folder: Path, pictures: Path, images: int, random: np.random.Generator) -> None:
    import cv2

    for number in range(PICTURES):
        coarse = random.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.resize(coarse, (SIDE, SIDE)))
    for number in range(images):
        os.link(folder / f"{number % PICTURES}.jpg", pictures / f"{number:012}.jpg")


def make_pictures(folder: Path, images: int) -> None:
    """A COCO data set of as many different JPEG files of 640×480, with eight boxes each."""
    import cv2

    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    listed, entries = [], []
    for number in range(images):
        coarse = random.integers(0, 255, (15, 20, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.resize(coarse, (640, 480)))
        listed.append({"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480})
        for place in range(8):
            box = [place * 70 + 5, int(random.integers(0, 300)), 50, 60]
            entries.append({"id": len(entries) + 1, "image_id": number, "category_id": 1 + place % 3, "bbox": box,
                            "iscrowd": 0, "area": 3000})  # fmt: skip
    categories = [{"id": n, "name": name} for n, name in ((1, "apple"), (2, "bolt"), (3, "cow"))]
    content = {"images": listed, "annotations": entries, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


class Registration:
    """Reading, checking and registering the data set by its path, as train_net.py does."""

    def __init__(self, folder: str) -> None:
        self.entry = {"name": "bench", "json": f"{folder}/data.json", "images": f"{folder}/images"}

    def warm_up(self) -> dict:
        from detectron2.data import DatasetCatalog

        self._register()
        records = DatasetCatalog.get("bench")
        return {"images": len(records), "objects": sum(len(record["annotations"]) for record in records)}

    def _register(self) -> None:
        from rcnnkit.data.registration import forget, register_custom_datasets

        forget("bench")
        register_custom_datasets([self.entry])

    def run(self) -> None:
        self._register()


class PycocotoolsRegistration:
    """`COCO(file)`: parsing and its indices."""

    def __init__(self, folder: str) -> None:
        self.file = f"{folder}/data.json"
        self.coco = None

    def warm_up(self) -> dict:
        self.run()
        return {"images": len(self.coco.imgs), "objects": len(self.coco.anns)}

    def run(self) -> None:
        from pycocotools.coco import COCO

        self.coco = None
        self.coco = COCO(self.file)


class Check:
    """`rcnnkit data check` of a folder of JPEG files."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def warm_up(self) -> dict:
        from rcnnkit.data.checks.run import check

        began = time.process_time()
        found = check(self.folder)
        seconds = time.process_time() - began
        count = len(found.states)
        return {"pictures": count, "pictures_per_core_s": count / seconds, "problems": len(found.problems)}

    def run(self) -> None:
        from rcnnkit.data.checks.run import check

        check(self.folder)


class Workers:
    """A training loader over the data set with several processes; a run draws `samples` of them from each."""

    def __init__(self, folder: str, workers: int, samples: int) -> None:
        import torch

        from detectron2.config import get_cfg
        from rcnnkit.config import add_rcnnkit_config
        from rcnnkit.data.loading import build_train_loader
        from rcnnkit.data.registration import forget, register_custom_datasets

        forget("bench")
        register_custom_datasets([{"name": "bench", "json": f"{folder}/data.json", "images": f"{folder}/images"}])
        cfg = get_cfg()
        add_rcnnkit_config(cfg)
        cfg.DATASETS.TRAIN = ("bench",)
        cfg.MODEL.MASK_ON = True
        cfg.INPUT.MIN_SIZE_TRAIN = (128,)
        cfg.DATALOADER.NUM_WORKERS = workers
        cfg.SOLVER.IMS_PER_BATCH = 1
        cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
        # results come through files, not through descriptors, of which a process has few
        torch.multiprocessing.set_sharing_strategy("file_system")
        self.workers, self.samples = workers, samples
        self.batches = iter(build_train_loader(cfg))

    def warm_up(self) -> dict:
        for _ in range(4 * self.workers):
            next(self.batches)
        before = _children_memory()
        self.run()
        growth = [after - before[process] for process, after in _children_memory().items() if process in before]
        return {
            "pictures": self.samples * self.workers,
            "workers": len(growth),
            "largest_growth_mb": max(growth) / 2**20,
        }

    def run(self) -> None:
        for _ in range(self.samples * self.workers):
            next(self.batches)


def _children_memory() -> dict[int, int]:
    """Bytes that each child of this process shares with no other (Linux)."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    memory = {}
    for process in map(int, children):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        memory[process] = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(DEDICATED))
    return memory
