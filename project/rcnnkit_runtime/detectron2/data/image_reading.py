"""Reading images: upright, in the channel order that is asked for, and refused with a reason where that fails.

Shapes: H×W image.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from detectron2.utils.file_io import PathManager

# ITU-R BT.601, analogue form, as tabulated at https://en.wikipedia.org/wiki/YUV
_M_RGB2YUV = [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]


_M_YUV2RGB = [[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]]


_EXIF_ORIENT = 274


# EXIF 2.32, tag 0x0112: what brings an image stored under each value upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageReadError(OSError, ValueError):
    """A file exists but is no whole image of a known format."""


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """PIL image → (H, W, C) array.

    Args:
        image: any mode.
        format: a PIL mode, "BGR", "YUV-BT.601" or None for the image's own mode.

    Returns:
        uint8, C = 1 for "L"; float64 in Y 0–1, U and V around 0 for "YUV-BT.601".
    """
    if format is not None:
        mode = "RGB" if format in ("BGR", "YUV-BT.601") else format
        if image.mode != mode:
            image = image.convert(mode)
    array = np.asarray(image)
    if format == "L":
        return np.expand_dims(array, -1)
    if format == "BGR":
        # whole, not a reversed view: every later copy of such a view is slow
        swapped = np.empty_like(array)
        cv2.mixChannels([array], [swapped], [0, 2, 1, 1, 2, 0])
        return swapped
    if format == "YUV-BT.601":
        return np.dot(array / 255.0, np.array(_M_RGB2YUV).T)
    return array


def convert_image_to_rgb(image: Any, format: str | None) -> np.ndarray:
    """The reverse of convert_PIL_to_numpy: an (H, W, C) array or tensor in `format` → RGB, for showing."""
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    if format == "BGR":
        return image[:, :, [2, 1, 0]]
    if format == "YUV-BT.601":
        return np.dot(image, np.array(_M_YUV2RGB).T) * 255.0
    if format == "L":
        image = image[:, :, 0]
    return np.asarray(Image.fromarray(image, mode=format).convert("RGB"))


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """The image upright, as its EXIF tag says; as it is where there is none or a broken one."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENT)
    except Exception:  # broken EXIF blocks raise anything from SyntaxError to struct.error; the pixels are still good
        return image
    method = _UPRIGHT.get(orientation)  # type: ignore[arg-type]
    return image if method is None else image.transpose(method)


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image upright.

    Args:
        file_name: path (PathManager).
        format: as in convert_PIL_to_numpy.

    Returns:
        (H, W, C) array, 0–255 uint8 or YUV floats.

    Raises:
        FileNotFoundError: there is no such file.
        ImageReadError: (an OSError and a ValueError) truncated, or not an image.
    """
    try:
        with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
            return convert_PIL_to_numpy(_apply_exif_orientation(image), format)
    except FileNotFoundError:
        raise FileNotFoundError(f"{file_name}: the image file does not exist") from None
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, PermissionError | IsADirectoryError):
            raise
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise ImageReadError(f"{file_name}: the image cannot be read: {reason}") from error
