"""A small COCO data set without a fault, for tests to damage: boxes, polygons, run lengths, keypoints, two parts."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

WIDTH, HEIGHT = 64, 48
CATEGORIES = [
    {"id": 1, "name": "bolt", "supercategory": "part"},
    {"id": 2, "name": "nut", "supercategory": "part"},
    {"id": 3, "name": "hand", "keypoints": ["tip", "left_side", "right_side"], "skeleton": [[1, 2], [1, 3]]},
]


def draw_picture(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Write a picture of its own content, in the format that the name ends with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)


def run_length_mask(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> dict:
    """A rectangle as compressed run lengths, as JSON has them."""
    raster = np.zeros(size, np.uint8, order="F")
    raster[y0:y1, x0:x1] = 1
    coded = run_lengths.encode(raster)
    return {"size": list(size), "counts": coded["counts"].decode()}


def content(images: list[str], first_id: int) -> dict:
    """COCO JSON of three images: the first with polygon, run lengths and box, the second with keypoints and a crowd."""
    a, b, c = range(first_id, first_id + 3)
    annotations = [
        {"image_id": a, "category_id": 1, "bbox": [10, 10, 20, 15], "segmentation": [[10, 10, 30, 10, 30, 25, 10, 25]]},
        {"image_id": a, "category_id": 2, "bbox": [35, 20, 12, 8], "segmentation": run_length_mask(35, 20, 47, 28)},
        {"image_id": a, "category_id": 1, "bbox": [50, 5, 10, 30]},
        {
            "image_id": b,
            "category_id": 3,
            "bbox": [5, 5, 30, 30],
            "keypoints": [20, 6, 2, 8, 30, 1, 0, 0, 0],
            "num_keypoints": 2,
        },
        {"image_id": b, "category_id": 2, "bbox": [40, 10, 20, 20], "segmentation": run_length_mask(40, 10, 60, 30)},
    ]
    annotations[4]["iscrowd"] = 1
    for number, annotation in enumerate(annotations):
        annotation.setdefault("iscrowd", 0)
        annotation["id"] = 10 * first_id + number + 1
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    listed = [
        {"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for image_id, name in zip((a, b, c), images, strict=True)
    ]
    return {"images": listed, "categories": CATEGORIES, "annotations": annotations}


def write_clean(root: Path) -> Path:
    """`images/`, `annotations/train.json` (annotations 11 … 15 of images 1 … 3) and `val.json` (41 … 45 of 4 … 6)."""
    names = ["a.png", "b.jpg", "c.jpg", "d.jpg", "e.png", "f.jpg"]
    for seed, name in enumerate(names):
        draw_picture(root / "images" / name, seed)
    write_json(root / "annotations" / "train.json", content(names[:3], 1))
    write_json(root / "annotations" / "val.json", content(names[3:], 4))
    return root


def write_json(path: Path, value: object) -> None:
    """Write JSON; NaN as Python writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def bytes_of(root: Path) -> dict[Path, bytes]:
    """Every file of a folder."""
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
