"""The embedded data set `shapes`: drawn from a seed on first use, kept as COCO JSON and PNG, registered by name.

    $DETECTRON2_DATASETS/shapes/          (./datasets/shapes by default)
        annotations/shapes_train.json  shapes_val.json
        train/000000.png …             val/000000.png …

The same seed gives the same bytes. The folder appears whole or not at all: it is drawn beside its place and renamed, so
that of several processes that begin together one is first and the others use what it made.
Format: https://cocodataset.org/#format-data
"""

import json
import logging
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.data.mask_outlines import polygons_of_mask
from rcnnkit.data.shapes_scene import (
    CLASSES,
    IMAGE_SIZE,
    KEYPOINT_CLASS,
    KEYPOINT_FLIP_MAP,
    KEYPOINT_NAMES,
    KEYPOINT_SKELETON,
    SCALE,
    SceneObject,
    draw_scene,
)
from rcnnkit.errors import UserError

SEED = 20
VERSION = 3  # of the drawing: raised whenever the same seed gives other pictures or annotations
SPLITS = {"train": 1200, "val": 150}  # pictures

logger = logging.getLogger(__name__)


def shapes_root() -> Path:
    """The folder of the data set: `shapes` in $DETECTRON2_DATASETS, or in ./datasets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser() / "shapes"


def register_shapes(root: Path | None = None, names: str = "shapes") -> None:
    """Register `<names>_train` and `<names>_val`; the pictures are drawn when a name is loaded for the first time."""
    root = root or shapes_root()
    for split in SPLITS:
        name = f"{names}_{split}"
        json_file, image_root = _annotation_file(root, split), root / split
        DatasetCatalog.register(name, partial(_load, root, split, name))
        MetadataCatalog.get(name).set(
            json_file=str(json_file),
            image_root=str(image_root),
            evaluator_type="coco",
            thing_classes=list(CLASSES),
            keypoint_names=list(KEYPOINT_NAMES),
            keypoint_flip_map=list(KEYPOINT_FLIP_MAP),
            keypoint_connection_rules=[(start, end, (255, 200, 0)) for start, end in KEYPOINT_SKELETON],
        )


def ensure_shapes(root: Path, seed: int = SEED, splits: dict[str, int] | None = None) -> bool:
    """Draw the data set unless it is there.

    Args:
        root: the folder that shall hold it.
        splits: pictures per split, `SPLITS` by default.

    Returns:
        Whether this call drew it.

    Raises:
        UserError: the folder holds something else, or the drawing of another version or seed.
    """
    if root.is_dir() and any(root.iterdir()):
        _check_existing(root, seed)
        return False
    splits = splits or SPLITS
    root.parent.mkdir(parents=True, exist_ok=True)
    logger.info("shapes: drawing %d pictures into %s (once, some seconds)", sum(splits.values()), root)
    draft = Path(tempfile.mkdtemp(prefix=".shapes-", dir=root.parent))
    try:
        for split, count in splits.items():
            _write_split(draft, split, count, seed)
        draft.chmod(0o755)  # mkdtemp makes it readable by its owner only
        os.sync()
        try:
            draft.rename(root)
        except OSError:
            if not root.is_dir() or not any(root.iterdir()):
                raise
            logger.info("shapes: another process was first; using its %s", root)
            _check_existing(root, seed)
            return False
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def annotate(objects: list[SceneObject], image_id: int, first_id: int) -> list[dict[str, Any]]:
    """The COCO annotations of one picture; an object of which next to nothing is seen has none."""
    annotations: list[dict[str, Any]] = []
    for thing in objects:
        polygons = polygons_of_mask(thing.seen, SCALE)
        if not polygons:
            continue
        points = np.concatenate(polygons).reshape(-1, 2)  # slivers that no polygon has are not in the box either
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        # COCO's convention for objects without keypoints (v = 0: not labelled, x = y = 0); loaders want one length.
        keypoints = np.zeros((len(KEYPOINT_NAMES), 3)) if thing.keypoints is None else thing.keypoints
        annotations.append(
            {
                "id": first_id + len(annotations),
                "image_id": image_id,
                "category_id": thing.category + 1,
                "bbox": [round(float(value), 2) for value in (left, top, right - left, bottom - top)],
                "area": float(thing.seen.sum()) / SCALE**2,
                "iscrowd": 0,
                "segmentation": polygons,
                "keypoints": [_coco_number(value) for value in keypoints.ravel()],
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
            }
        )
    return annotations


def _load(root: Path, split: str, name: str) -> list[dict[str, Any]]:
    from detectron2.data.datasets.coco import load_coco_json  # on use: registering needs the catalogs only

    ensure_shapes(root)
    return load_coco_json(str(_annotation_file(root, split)), str(root / split), name)


def _annotation_file(root: Path, split: str) -> Path:
    return root / "annotations" / f"shapes_{split}.json"


def _write_split(root: Path, split: str, count: int, seed: int) -> None:
    (root / split).mkdir()
    (root / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in tqdm(range(count), desc=f"shapes {split}", unit="picture", disable=None, leave=False):
        # Each picture has a stream of its own: it does not change with the number of pictures before it.
        rng = np.random.default_rng([seed, VERSION, list(SPLITS).index(split), index])
        picture, objects = draw_scene(rng)
        file_name = f"{index:06d}.png"
        if not cv2.imwrite(str(root / split / file_name), picture):
            raise OSError(f"{root / split / file_name}: the picture could not be written")
        images.append({"id": index + 1, "file_name": file_name, "height": IMAGE_SIZE, "width": IMAGE_SIZE})
        annotations.extend(annotate(objects, index + 1, len(annotations) + 1))
    content = {
        "info": {"description": "rcnnkit shapes", "version": str(VERSION), "seed": seed},
        "licenses": [],
        "categories": [_category(index, name) for index, name in enumerate(CLASSES, start=1)],
        "images": images,
        "annotations": annotations,
    }
    _annotation_file(root, split).write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _category(category_id: int, name: str) -> dict[str, Any]:
    category: dict[str, Any] = {"id": category_id, "name": name, "supercategory": "shape"}
    if name == KEYPOINT_CLASS:
        category["keypoints"] = list(KEYPOINT_NAMES)
        category["skeleton"] = [[KEYPOINT_NAMES.index(end) + 1 for end in bone] for bone in KEYPOINT_SKELETON]
    return category


def _coco_number(value: float) -> float | int:
    rounded = round(float(value), 2)
    return int(rounded) if rounded.is_integer() else rounded


def _check_existing(root: Path, seed: int) -> None:
    advice = f"delete {root} to have it drawn again, or point DETECTRON2_DATASETS elsewhere"
    for split in SPLITS:
        path = _annotation_file(root, split)
        try:
            info = json.loads(path.read_text(encoding="utf-8"))["info"]
            found = (info["version"], info["seed"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the data set shapes ({type(error).__name__}); {advice}") from error
        if found != (str(VERSION), seed):
            raise UserError(f"{path}: drawn as version, seed = {found}, wanted {(str(VERSION), seed)}; {advice}")
