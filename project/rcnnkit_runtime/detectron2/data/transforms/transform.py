"""Deterministic transforms that fvcore does not have: resize, extent, rotation, colour.

Shapes: H×W image, N coordinates. Coordinates are absolute pixels (x, y); angles are degrees counter-clockwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import CropTransform, HFlipTransform, NoOpTransform, Transform, TransformList
from PIL import Image

__all__ = ["ColorTransform", "ExtentTransform", "PILColorTransform", "ResizeTransform", "RotationTransform"]

# plain ints, as configs and signatures show them
NEAREST, BILINEAR = Image.Resampling.NEAREST.value, Image.Resampling.BILINEAR.value

_TORCH_MODES = {
    Image.Resampling.NEAREST: "nearest",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
}


def _to_pil(img: np.ndarray) -> Image.Image:
    """(H, W), (H, W, 1) or (H, W, 3) array → PIL image."""
    if img.ndim == 3 and img.shape[2] == 1:
        img = img[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(img))


def _like(result: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Give back the channel axis of a one-channel source that PIL or OpenCV dropped."""
    return result[..., None] if source.ndim == 3 and result.ndim == 2 else result


class ExtentTransform(Transform):
    """Cut the rectangle `src_rect` out of the image and scale it to `output_size`; outside it is filled.

    Args:
        src_rect: (x0, y0, x1, y1) in source pixels; may reach over the border.
        output_size: (h, w).
        interp: PIL resampling filter.
        fill: value for pixels outside the source.
    """

    def __init__(self, src_rect, output_size, interp=BILINEAR, fill=0):
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        h, w = self.output_size
        resample = self.interp if interp is None else interp
        moved = _to_pil(img).transform(
            size=(w, h),
            method=Image.Transform.EXTENT,
            data=self.src_rect,
            resample=resample,
            fillcolor=self.fill or None,
        )
        return _like(np.asarray(moved), img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        # a rectangle given as floats; the single-precision result is part of the recorded behaviour
        h, w = self.output_size
        x0, y0, x1, y1 = self.src_rect
        out = coords.astype(np.float32)
        out[:, 0] = (out[:, 0] - x0) * (w / (x1 - x0))
        out[:, 1] = (out[:, 1] - y0) * (h / (y1 - y0))
        return out

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=NEAREST)


class ResizeTransform(Transform):
    """Resize an image of h × w pixels to new_h × new_w: uint8 through PIL, other types through torch."""

    def __init__(self, h, w, new_h, new_w, interp=None):
        super().__init__()
        if interp is None:
            interp = BILINEAR
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.shape[:2] != (self.h, self.w):
            raise AssertionError(f"ResizeTransform was made for {self.h}×{self.w} (h×w), got {img.shape[:2]}")
        if img.ndim > 4:
            raise AssertionError(f"ResizeTransform: image of {img.ndim} axes")
        method = self.interp if interp is None else interp
        if img.dtype == np.uint8:
            return _like(np.asarray(_to_pil(img).resize((self.new_w, self.new_h), method)), img)
        return self._resize_float(img, method)

    def _resize_float(self, img: np.ndarray, method: int) -> np.ndarray:
        mode = _TORCH_MODES[Image.Resampling(method)]
        align_corners = None if mode == "nearest" else False
        shape = img.shape
        # torch wants (N, C, H, W)
        folded = torch.from_numpy(np.ascontiguousarray(img)).view(shape[0], shape[1], -1).permute(2, 0, 1)[None]
        scaled = F.interpolate(folded, (self.new_h, self.new_w), mode=mode, align_corners=align_corners)
        return scaled[0].permute(1, 2, 0).reshape(self.new_h, self.new_w, *shape[2:]).numpy()

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 0] = coords[:, 0] * (self.new_w * 1.0 / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h * 1.0 / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=NEAREST)

    def inverse(self) -> ResizeTransform:
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class RotationTransform(Transform):
    """Rotate by `angle` degrees counter-clockwise about `center`.

    Args:
        h, w: size of the source.
        expand: enlarge the canvas so that nothing is cut off (the image's centre stays the canvas' centre).
        center: (x, y) in pixels; the image's centre when None. With `expand` it matters only up to rounding.
        interp: OpenCV interpolation; bilinear when None.
    """

    def __init__(self, h, w, angle, expand=True, center=None, interp=None):
        super().__init__()
        image_center = np.array((w / 2, h / 2))
        if center is None:
            center = image_center
        if interp is None:
            interp = cv2.INTER_LINEAR
        abs_cos, abs_sin = abs(np.cos(np.deg2rad(angle))), abs(np.sin(np.deg2rad(angle)))
        if expand:
            bound_w, bound_h = np.rint([h * abs_sin + w * abs_cos, h * abs_cos + w * abs_sin]).astype(int)
        else:
            bound_w, bound_h = w, h
        self._set_attributes(locals())
        self.rm_coords = self.create_rotation_matrix()
        # Coordinates count from the pixel's corner, OpenCV's from its centre.
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    @property
    def _is_identity(self) -> bool:
        return self.angle % 360 == 0

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if len(img) == 0 or self._is_identity:
            return img
        if img.shape[:2] != (self.h, self.w):
            raise AssertionError(f"RotationTransform was made for {self.h}×{self.w} (h×w), got {img.shape[:2]}")
        flags = self.interp if interp is None else interp
        rotated = cv2.warpAffine(img, self.rm_image, (int(self.bound_w), int(self.bound_h)), flags=flags)
        return _like(rotated, img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=float)
        if len(coords) == 0 or self._is_identity:
            return coords
        return coords @ self.rm_coords[:, :2].T + self.rm_coords[:, 2]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=cv2.INTER_NEAREST)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """The 2 × 3 matrix of the rotation in a frame moved by `offset` pixels."""
        center = (float(self.center[0] + offset), float(self.center[1] + offset))
        matrix = cv2.getRotationMatrix2D(center, self.angle, 1)
        if self.expand:
            # the middle of the source has to land on the middle of the enlarged canvas
            middle = matrix[:, :2] @ (self.image_center + offset) + matrix[:, 2]
            matrix[:, 2] += np.array([self.bound_w / 2, self.bound_h / 2]) + offset - middle
        return matrix

    def inverse(self) -> Transform:
        """Rotate back and cut the original size out of the middle; only with `expand`."""
        if not self.expand:
            raise NotImplementedError("RotationTransform.inverse() needs expand=True: corners were cut off")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        crop = CropTransform((back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2, self.w, self.h)
        return TransformList([back, crop])


class ColorTransform(Transform):
    """Apply `op` (array → array) to the pixels; geometry stays."""

    def __init__(self, op: Callable[[Any], Any]):
        if not callable(op):
            raise ValueError(f"op should be callable, got {type(op).__name__}")
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def inverse(self) -> Transform:
        return NoOpTransform()

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation


class PILColorTransform(ColorTransform):
    """Apply `op` (PIL image → PIL image) to the pixels; geometry stays."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(_to_pil(img)))


def HFlip_rotated_box(transform: HFlipTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Mirror rotated boxes, (N, 5) as (x centre, y centre, w, h, angle)."""
    rotated_boxes[:, 0] = transform.width - rotated_boxes[:, 0]
    rotated_boxes[:, 4] = -rotated_boxes[:, 4]
    return rotated_boxes


def Resize_rotated_box(transform: ResizeTransform, rotated_boxes: np.ndarray) -> np.ndarray:
    """Scale rotated boxes, (N, 5) as (x centre, y centre, w, h, angle); a sheared box becomes the nearest rectangle."""
    scale_x = transform.new_w * 1.0 / transform.w
    scale_y = transform.new_h * 1.0 / transform.h
    theta = np.deg2rad(rotated_boxes[:, 4])
    cos, sin = np.cos(theta), np.sin(theta)
    rotated_boxes[:, 0] *= scale_x
    rotated_boxes[:, 1] *= scale_y
    # images of the box's own axes: (cos, −sin) along w, (sin, cos) along h, with y pointing down
    rotated_boxes[:, 2] *= np.hypot(scale_x * cos, scale_y * sin)
    rotated_boxes[:, 3] *= np.hypot(scale_x * sin, scale_y * cos)
    rotated_boxes[:, 4] = np.rad2deg(np.arctan2(scale_x * sin, scale_y * cos))
    return rotated_boxes


HFlipTransform.register_type("rotated_box", HFlip_rotated_box)
ResizeTransform.register_type("rotated_box", Resize_rotated_box)
NoOpTransform.register_type("rotated_box", lambda transform, boxes: boxes)
