"""Weights that depend on nothing but the parameter's name and shape, so that two engines can be filled alike."""

import zlib

import numpy as np
import torch

# Factors on He's scale: pixels are ±100, and scores and offsets shall be of the order of one.
GAINS = {
    "stem.conv1": 0.01,
    "bbox_pred": 0.1,
    "anchor_deltas": 0.1,
    "head.cls_score": 0.03,
    "cls_score": 1.0,
    "score_lowres": 1.0,
}


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """Fill every entry of the state dict, in place.

    Convolution and linear weights are normal with He's scale, norm layers stay near the identity, class scores are
    spread so that no two detections tie.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or name.endswith(("pixel_mean", "pixel_std")) or "cell_anchors" in name:
                continue
            tensor.copy_(torch.from_numpy(values(name, tuple(tensor.shape))))
    return model


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 values for one entry of a state dict."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    noise = random.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(noise)
    if len(shape) <= 1:
        is_norm_scale = name.endswith("weight")
        # The last norm of a residual block is damped, or activations double from block to block.
        scale = 0.3 if "conv3.norm" in name else 1.0
        return scale * (1 + 0.05 * noise) if is_norm_scale else 0.05 * noise
    fan_in = int(np.prod(shape[1:]))
    gain = np.sqrt(2 / fan_in) * next((factor for part, factor in GAINS.items() if part in name), 1.0)
    return np.float32(gain) * noise
