"""Single shapes on a `VisImage`: text, boxes, circles, lines, masks, polygons.

Coordinates are pixels of the image; colours RGB in [0, 1] or any form that matplotlib reads.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib.colors as mplc
import matplotlib.lines as mpl_lines
import matplotlib.patches as mpl_patches
import numpy as np

from .colormap import random_color
from .generic_mask import GenericMask
from .vis_image import VisImage

_LARGE_MASK_AREA_THRESH = 120000
# Luminance (ITU-R BT.601) that letters need on their dark box.
_LEGIBLE_LUMINANCE = 0.55
_LUMINANCE_WEIGHTS = np.array([0.299, 0.587, 0.114])


class ShapeDrawing:
    """Each method draws on `self.output` and returns it."""

    output: VisImage
    _default_font_size: float

    def draw_text(
        self,
        text: str,
        position: Sequence[float],
        *,
        font_size: float | None = None,
        color: Any = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write text in a dark box whose upper edge is at `position` (x, y)."""
        shown = _legible(np.array(mplc.to_rgb(color)))
        self.output.ax.text(
            position[0],
            position[1],
            text,
            size=(self._default_font_size if font_size is None else font_size) * self.output.scale,
            family="sans-serif",
            bbox={"facecolor": "black", "alpha": 0.8, "pad": 0.7, "edgecolor": "none"},
            verticalalignment="top",
            horizontalalignment=horizontal_alignment,
            color=shown,
            zorder=10,
            rotation=rotation,
        )
        return self.output

    def draw_box(
        self, box_coord: Sequence[float], alpha: float = 0.5, edge_color: Any = "g", line_style: str = "-"
    ) -> VisImage:
        """Draw the outline of an XYXY box."""
        x0, y0, x1, y1 = (float(value) for value in box_coord)
        self.output.ax.add_patch(
            mpl_patches.Rectangle(
                (x0, y0),
                x1 - x0,
                y1 - y0,
                fill=False,
                edgecolor=edge_color,
                linewidth=self._line_width(),
                alpha=alpha,
                linestyle=line_style,
            )
        )
        return self.output

    def draw_circle(self, circle_coord: tuple[float, float], color: Any, radius: float = 3) -> VisImage:
        """Draw a filled circle around (x, y); `radius` in pixels."""
        self.output.ax.add_patch(mpl_patches.Circle(circle_coord, radius=radius, fill=True, color=color))
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Any,
        linestyle: Any = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw a line through the points (x_data[i], y_data[i])."""
        width = self._line_width() if linewidth is None else max(linewidth, 1) * self.output.scale
        self.output.ax.add_line(mpl_lines.Line2D(x_data, y_data, linewidth=width, color=color, linestyle=linestyle))
        return self.output

    def _line_width(self) -> float:
        return max(self._default_font_size / 4, 1) * self.output.scale

    def draw_binary_mask(
        self,
        binary_mask: Any,
        color: Any = None,
        *,
        edge_color: Any = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: int | None = 10,
    ) -> VisImage:
        """Fill a mask [H, W]; its outline is drawn where it has no holes.

        Args:
            color: default random.
            edge_color: default a lighter `color`.
            text: written in the middle of each large part.
            area_threshold: parts of a mask with fewer pixels are left out.
        """
        color = mplc.to_rgb(tuple(random_color(rgb=True, maximum=1)) if color is None else color)
        threshold = area_threshold or 0
        binary_mask = np.asarray(binary_mask).astype(np.uint8)
        mask = GenericMask(binary_mask, self.output.height, self.output.width)
        if mask.area() == 0 or mask.area() < threshold:
            return self.output
        if mask.has_holes:
            self._show_rgba(color, binary_mask * alpha)
        else:
            for polygon in mask.polygons:
                if _polygon_area(polygon) >= threshold:
                    self.draw_polygon(polygon.reshape(-1, 2), color=color, edge_color=edge_color, alpha=alpha)
        if text is not None:
            self._draw_text_in_mask(binary_mask, text, self._change_color_brightness(color, brightness_factor=0.7))
        return self.output

    def draw_soft_mask(
        self, soft_mask: Any, color: Any = None, *, text: str | None = None, alpha: float = 0.5
    ) -> VisImage:
        """Fill a mask [H, W] of values in [0, 1] with that opacity, times `alpha`."""
        color = mplc.to_rgb(tuple(random_color(rgb=True, maximum=1)) if color is None else color)
        soft_mask = np.asarray(soft_mask, dtype=np.float32)
        self._show_rgba(color, soft_mask * alpha)
        if text is not None:
            binary_mask = (soft_mask > 0.5).astype(np.uint8)
            self._draw_text_in_mask(binary_mask, text, self._change_color_brightness(color, brightness_factor=0.7))
        return self.output

    def _show_rgba(self, color: tuple[float, float, float], opacity: np.ndarray) -> None:
        rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
        if len(rows) == 0:
            return
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        rgba = np.empty((bottom - top, right - left, 4), dtype=np.float32)
        rgba[..., :3] = color
        rgba[..., 3] = opacity[top:bottom, left:right]
        self.output.ax.imshow(rgba, extent=(left, right, bottom, top), interpolation="nearest", zorder=0.5)
        self.output.ax.set_xlim(0, self.output.width)
        self.output.ax.set_ylim(self.output.height, 0)

    def draw_polygon(self, segment: Any, color: Any, edge_color: Any = None, alpha: float = 0.5) -> VisImage:
        """Fill a polygon [M, 2]; its outline is opaque and lighter unless `edge_color` is given."""
        if edge_color is None:
            edge_color = self._change_color_brightness(color, brightness_factor=0.7) if alpha > 0.8 else color
        self.output.ax.add_patch(
            mpl_patches.Polygon(
                np.asarray(segment),
                fill=True,
                facecolor=(*mplc.to_rgb(color), alpha),
                edgecolor=(*mplc.to_rgb(edge_color), 1),
                linewidth=max(self._default_font_size // 15 * self.output.scale, 1),
            )
        )
        return self.output

    def _change_color_brightness(self, color: Any, brightness_factor: float) -> tuple[float, float, float]:
        """Make a colour lighter (factor in up to 1) or darker (down to -1): HLS lightness times 1 + factor."""
        assert -1.0 <= brightness_factor <= 1.0, f"brightness_factor {brightness_factor} is outside [-1, 1]"
        hue, lightness, saturation = colorsys.rgb_to_hls(*mplc.to_rgb(color))
        lightness = min(max(lightness * (1.0 + brightness_factor), 0.0), 1.0)
        red, green, blue = (min(max(c, 0.0), 1.0) for c in colorsys.hls_to_rgb(hue, lightness, saturation))
        return red, green, blue

    def _draw_text_in_mask(self, binary_mask: np.ndarray, text: str, color: Any) -> None:
        """Write `text` in the middle of the largest part of a mask and of each other large part."""
        number, parts, stats, _ = cv2.connectedComponentsWithStats(binary_mask, connectivity=8)
        if number < 2:
            return
        areas = stats[1:, cv2.CC_STAT_AREA]
        largest = int(np.argmax(areas)) + 1
        for part in range(1, number):
            if part == largest or areas[part - 1] > _LARGE_MASK_AREA_THRESH:
                rows, columns = np.nonzero(parts == part)
                # The median lies in or near the bulk of the object, which the mean of a crescent does not.
                self.draw_text(text, (float(np.median(columns)), float(np.median(rows))), color=color)


def _polygon_area(polygon: np.ndarray) -> float:
    x, y = polygon[0::2], polygon[1::2]
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def _legible(color: np.ndarray) -> np.ndarray:
    """The colour, mixed with as much white as letters on a dark box need."""
    luminance = float(color @ _LUMINANCE_WEIGHTS)
    if luminance >= _LEGIBLE_LUMINANCE:
        return color
    white = (_LEGIBLE_LUMINANCE - luminance) / (1 - luminance)
    return color + (1 - color) * white
