"""Pictures, ground truth and weights that depend on seeds and names alone, so that every peer works on the same.

Shapes: H x W pixels, boxes absolute pixels XYXY. Pictures are BGR, 0 to 255.
"""

import zlib

import numpy as np
import torch

NUM_CLASSES = 80
POLYGON_CORNERS = 12
# The defaults of Detectron2's configs; torchvision gets the same numbers.
PIXEL_MEAN = (103.530, 116.280, 123.675)
PIXEL_STD = (1.0, 1.0, 1.0)
# On He's scale. Class scores are spread so that some hundred of the 80 000 (box, class) pairs pass the threshold of
# 0.05; box deltas are small, so that proposals stay distinct and non-maximum suppression leaves more than 100.
GAINS = {
    "stem.conv1": 0.01,
    "bbox_pred": 0.05,
    "anchor_deltas": 0.05,
    "objectness_logits": 0.5,
    "cls_score": 1.0,
}


def picture(height: int, width: int, seed: int) -> torch.Tensor:
    """Smooth coloured noise with fine grain, float32 (3, H, W)."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(0, 255, (1, 3, height // 32 + 2, width // 32 + 2)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[0]
    grain = torch.from_numpy(random.normal(0, 12, (3, height, width)).astype(np.float32))
    return (smooth + grain).clamp(0, 255).round()


def truth(height: int, width: int, count: int, seed: int) -> dict:
    """`count` objects: boxes (count, 4) float32, classes (count,) in [0, 80), one polygon of flat x, y each."""
    random = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, POLYGON_CORNERS, endpoint=False)
    polygons, boxes = [], []
    for _ in range(count):
        half = np.array([width, height]) * random.uniform(0.06, 0.3, 2)
        centre = half + random.uniform(0, 1, 2) * (np.array([width, height]) - 2 * half)
        radius = random.uniform(0.7, 1.0, POLYGON_CORNERS)[:, None]
        corners = centre + radius * half * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        polygons.append(corners.reshape(-1).tolist())
        boxes.append([*corners.min(axis=0), *corners.max(axis=0)])
    return {
        "boxes": torch.tensor(np.array(boxes), dtype=torch.float32),
        "classes": torch.from_numpy(random.integers(0, NUM_CLASSES, count)),
        "polygons": polygons,
    }


def weights(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Float32 values for the entry `name` of Detectron2's state dict: normal with He's scale, norms near identity."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 1 + 0.1 * noise.abs()
    if len(shape) <= 1:
        # The last norm of a residual block is damped, or activations double from block to block.
        scale = 0.3 if "conv3.norm" in name else 1.0
        return scale * (1 + 0.05 * noise) if name.endswith("weight") else 0.05 * noise
    fan_in = int(np.prod(shape[1:]))
    gain = next((factor for part, factor in GAINS.items() if part in name), 1.0)
    return gain * (2 / fan_in) ** 0.5 * noise
