"""Images normalised for Detectron2 become what the backbone's weights were trained on.

Shapes: N images, C channels, H × W pixels.
"""

from collections.abc import Sequence

import torch
from torch import nn

from rcnnkit.errors import UserError


class ImageStatistics(nn.Module):
    """Undo one normalisation of colours and do another; the order of channels is reversed where the two differ."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        *,
        given_mean: Sequence[float],
        given_std: Sequence[float],
        wanted_mean: Sequence[float],
        wanted_std: Sequence[float],
        reverse_channels: bool,
    ):
        """
        Args:
            given_mean, given_std: (C,) what was subtracted from and divided by, on values from 0 to 255.
            wanted_mean, wanted_std: (C,) the same as the weights want it, in the order of their channels.
            reverse_channels: the images are BGR and the weights want RGB.
        """
        super().__init__()
        mean, std = torch.tensor(given_mean), torch.tensor(given_std)
        if reverse_channels:
            mean, std = mean.flip(0), std.flip(0)
        scale = std / torch.tensor(wanted_std)
        shift = (mean - torch.tensor(wanted_mean)) / torch.tensor(wanted_std)
        self.reverse_channels = reverse_channels
        # Not in checkpoints: they follow from the config, as Detectron2's own pixel_mean.
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        if self.reverse_channels:
            images = images.flip(1)
        return images * self.scale + self.shift


def own_statistics(
    cfg, section: str, mean: Sequence[float], std: Sequence[float], channels: int | None
) -> ImageStatistics | None:
    """From the normalisation of a config to that of weights which were trained on RGB values from 0 to 1.

    Args:
        section: of the config, `TIMM` or `MOBILENET`.
        mean, std: (3,) of the weights, RGB, values from 0 to 1.
        channels: of the images.

    Returns:
        None where the config wants its own statistics to reach the backbone.

    Raises:
        UserError: the images are not of three colours.
    """
    if not cfg.MODEL[section].OWN_STATISTICS:
        return None
    if cfg.INPUT.FORMAT not in ("RGB", "BGR") or channels != len(mean):
        raise UserError(
            f"MODEL.{section}.OWN_STATISTICS: True is for INPUT.FORMAT RGB or BGR, but it is {cfg.INPUT.FORMAT} with "
            f"{channels} channels; set it to False"
        )
    return ImageStatistics(
        given_mean=cfg.MODEL.PIXEL_MEAN,
        given_std=cfg.MODEL.PIXEL_STD,
        wanted_mean=[255 * value for value in mean],
        wanted_std=[255 * value for value in std],
        reverse_channels=cfg.INPUT.FORMAT == "BGR",
    )
