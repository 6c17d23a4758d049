"""An image that is also a matplotlib axis of the same pixels."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


class VisImage:
    """A picture to draw on.

    Attributes:
        img: RGB array [H, W, 3] that was given.
        width, height: its size in pixels.
        scale: the output is so much larger.
        fig, canvas, ax: matplotlib's figure, canvas and axis; data coordinates are the pixels of `img`.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0):
        self.img = img
        self.scale = scale
        self.width, self.height = img.shape[1], img.shape[0]
        self._setup_figure(img)

    def _setup_figure(self, img: np.ndarray) -> None:
        # No pyplot: its global state would keep every figure alive.
        fig = matplotlib.figure.Figure(frameon=False)
        self.dpi = fig.get_dpi()
        # The size in pixels is cut to whole numbers; the small addition keeps 640.0 from becoming 639.
        fig.set_size_inches((self.width * self.scale + 1e-2) / self.dpi, (self.height * self.scale + 1e-2) / self.dpi)
        self.canvas = FigureCanvasAgg(fig)
        ax = fig.add_axes((0.0, 0.0, 1.0, 1.0))
        ax.axis("off")
        self.fig = fig
        self.ax = ax
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Put another image of the same size under what was drawn."""
        img = np.clip(np.asarray(img), 0, 255).astype(np.uint8)
        for old in list(self.ax.images):
            if old.get_zorder() < 0:
                old.remove()
        self.ax.imshow(img, extent=(0, self.width, self.height, 0), interpolation="nearest", zorder=-1)
        self.ax.set_xlim(0, self.width)
        self.ax.set_ylim(self.height, 0)

    def save(self, filepath: str) -> None:
        """Write the picture; the format follows from the name."""
        self.fig.savefig(filepath)

    def get_image(self) -> np.ndarray:
        """The picture as uint8 RGB array [H * scale, W * scale, 3]."""
        self.canvas.draw()
        return np.ascontiguousarray(np.asarray(self.canvas.buffer_rgba())[..., :3])
