"""A data set of four small drawn images and the overrides of a model that trains on it in a second a step."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CONFIG = "configs/quick/mask_rcnn_R_18_FPN_shapes.yaml"
MODEL = [
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20", "MODEL.RPN.POST_NMS_TOPK_TEST", "20", "MODEL.ROI_HEADS.NUM_CLASSES", "2",
    "MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "", "MODEL.ROI_BOX_HEAD.NORM", "", "MODEL.ROI_MASK_HEAD.NORM", "",
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8", "INPUT.MIN_SIZE_TRAIN", "(64,)",
    "INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "4", "SOLVER.WARMUP_ITERS", "1",
    "SOLVER.CHECKPOINT_PERIOD", "2", "DATASETS.TRAIN", "('tiny',)", "DATASETS.TEST", "('tiny',)",
]  # fmt: skip


def write_data_set(folder: Path) -> Path:
    """Four 64×64 PNGs with a bright square and a dark disc-like square each; returns the COCO JSON."""
    random = np.random.RandomState(0)
    images, annotations = [], []
    for image_id in range(1, 5):
        pixels = random.randint(90, 110, (64, 64, 3)).astype(np.uint8)
        for category in (1, 2):
            x, y = random.randint(2, 30, 2).tolist()
            side = int(random.randint(14, 26))
            pixels[y : y + side, x : x + side] = 240 if category == 1 else 20
            polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0,
                 "bbox": [x, y, side, side], "area": side * side, "segmentation": [polygon]}
            )  # fmt: skip
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 64, "width": 64})
    categories = [{"id": 1, "name": "bright"}, {"id": 2, "name": "dark"}]
    path = folder / "tiny.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def command(repository: Path, data: Path, output: Path, *more: str) -> list[str]:
    """Arguments of train_net.py that train the small model on the small data; `more` comes last and wins."""
    flags = [argument for argument in more if argument.startswith("--")]
    overrides = [argument for argument in more if not argument.startswith("--")]
    custom = f"[{{'name': 'tiny', 'json': {str(data)!r}}}]"
    return [
        *("--config-file", str(repository / CONFIG), *flags),
        *("DATASETS.CUSTOM", custom, *MODEL, "OUTPUT_DIR", str(output), *overrides),
    ]
