"""3x3 convolution by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, https://arxiv.org/abs/1509.09308).

A tile of 4 x 4 outputs takes 36 products per pair of channels instead of 144. All steps are matrix products, which the
processor's library does at full speed. The result differs by rounding alone, some 1e-5 of the outputs' scale at most.
An input that is infinite or NaN makes NaN of all 16 outputs of each tile that reads it, where the direct convolution
spoils the 9 outputs around it.

Shapes: N images, C input and K output channels, H x W pixels, T tiles: 4 x 4 outputs from 6 x 6 inputs each.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

OUT_TILE, TAPS = 4, 3
IN_TILE = OUT_TILE + TAPS - 1
# Below these the transforms cost more than they save (measured on AVX2 and AVX-512 machines).
MIN_CHANNELS, MIN_TILES = 128, 200
# So many tiles at once stay in the processor's cache from one step to the next.
TILES_AT_ONCE = 128


@functools.cache
def transforms() -> tuple[Tensor, ...]:
    """The matrices for one direction of a tile: outputs (4, 6), filters (6, 3), inputs (6, 6).

    Cook's and Toom's construction on five points and infinity. The choice of points decides how many digits are lost
    (Barabasz et al., https://arxiv.org/abs/1803.10986): with these the error is half that of 0, 1, -1, 2, -2.
    """
    points = np.array([0.0, 0.625, -0.625, 1.5, -1.5])

    def evaluation(length: int) -> np.ndarray:
        """Values at the points of a polynomial with `length` coefficients; the last row is infinity."""
        return np.vstack([points[:, None] ** np.arange(length), np.eye(length)[-1:]])

    output, filters, inputs = evaluation(OUT_TILE).T, evaluation(TAPS), np.linalg.inv(evaluation(IN_TILE)).T
    return tuple(torch.from_numpy(matrix.astype(np.float32)) for matrix in (output, filters, inputs))


def is_worthwhile(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether `conv` on `x` can go this way and gains: a large float32 3x3 convolution on a CPU, without gradients."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and conv.kernel_size == (TAPS, TAPS)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and type(conv)._conv_forward is nn.Conv2d._conv_forward  # a subclass may do something else there
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
        and x.dim() == 4
        and x.dtype == conv.weight.dtype == torch.float32
        and x.shape[0] * x.shape[2] * x.shape[3] >= MIN_TILES * OUT_TILE**2
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution with stride 1 and one pixel of zeros around; no gradients.

    Args:
        x: (N, C, H, W) float32.
        weight: (K, C, 3, 3).
        bias: (K,) or None.

    Returns:
        (N, K, H, W), laid out in memory as torch's convolution does: channels-last where `x` or `weight` is, else
        contiguous.
    """
    num, channels, height, width = x.shape
    out_channels = weight.shape[0]
    output_matrix, filter_matrix, input_matrix = transforms()
    # Made anew each time: some percent of the work, and right whatever was written to the weight.
    taps = weight.permute(2, 3, 1, 0).reshape(TAPS, TAPS, -1)
    filters = _in_both_directions(filter_matrix, taps).view(-1, channels, out_channels)

    rows, columns = -(-height // OUT_TILE), -(-width // OUT_TILE)
    padded = x.new_zeros((num, rows * OUT_TILE + 2, columns * OUT_TILE + 2, channels))
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    of_image, of_row, of_column, of_channel = padded.stride()
    # (6, 6, N, rows, columns, C): overlapping windows as a view
    windows = padded.as_strided(
        (IN_TILE, IN_TILE, num, rows, columns, channels),
        (of_row, of_column, of_image, OUT_TILE * of_row, OUT_TILE * of_column, of_channel),
    )
    channels_last = _is_channels_last(x) or _is_channels_last(weight)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    whole = torch.empty(
        (num, out_channels, rows * OUT_TILE, columns * OUT_TILE),
        dtype=x.dtype,
        device=x.device,
        memory_format=memory_format,
    )
    # (4, 4, N, rows, columns, K): the outputs in the order of the windows
    targets = whole.unflatten(3, (columns, OUT_TILE)).unflatten(2, (rows, OUT_TILE)).permute(3, 5, 0, 2, 4, 1)

    # Pieces are whole images where they are small, else whole rows of tiles.
    piece_dim, tiles_of_one = (2, rows * columns) if rows * columns <= TILES_AT_ONCE else (3, num * columns)
    step = max(1, TILES_AT_ONCE // tiles_of_one)
    for piece, target in zip(windows.split(step, piece_dim), targets.split(step, piece_dim), strict=True):
        tiles = piece.shape[2] * piece.shape[3] * columns
        transformed = _in_both_directions(input_matrix, piece.reshape(IN_TILE, IN_TILE, -1)).view(-1, tiles, channels)
        if channels_last:
            products = torch.bmm(transformed, filters).view(IN_TILE, IN_TILE, -1)
            values = _in_both_directions(output_matrix, products).view(-1, tiles, out_channels)
        else:
            # The product comes out transposed, so that what is copied lies in the order of its target.
            products = torch.bmm(filters.transpose(1, 2), transformed.transpose(1, 2)).view(IN_TILE, IN_TILE, -1)
            values = _in_both_directions(output_matrix, products).view(-1, out_channels, tiles).transpose(1, 2)
        values = values.unflatten(1, target.shape[2:5]).unflatten(0, target.shape[:2])
        if bias is None:
            target.copy_(values)
        else:
            torch.add(values, bias, out=target)
    return whole[:, :, :height, :width].contiguous(memory_format=memory_format)


def _in_both_directions(matrix: Tensor, tiles: Tensor) -> Tensor:
    """`matrix` (M, S) times the rows, then the columns, of tiles (S, S, n); returns (M, M, n)."""
    num_rows, side = matrix.shape
    return matrix @ (matrix @ tiles.view(side, -1)).view(num_rows, side, -1)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
