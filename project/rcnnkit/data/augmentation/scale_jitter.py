"""Large-scale jitter: a resize by a random factor, then a random crop to a fixed frame.

Ghiasi et al., "Simple copy-paste is a strong data augmentation method for instance segmentation", CVPR 2021,
https://arxiv.org/abs/2012.07177
"""

from __future__ import annotations

from detectron2.data import transforms as T


def large_scale_jitter(scale: tuple[float, float], size: tuple[int, int]) -> list[T.Augmentation]:
    """The two augmentations, in order.

    Images that come out smaller than the frame stay so: the model pads its batch itself, and knows where an image ends.

    Args:
        scale: (least, most) factor; 1 is the size at which the image just fits into the frame.
        size: (height, width) of the frame, in pixels.
    """
    height, width = size
    # Detectron2 annotates the pair as one number
    crop = T.FixedSizeCrop((height, width), pad=False)  # type: ignore[arg-type]
    return [T.ResizeScale(*scale, height, width), crop]
