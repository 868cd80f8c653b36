"""Where the samples of a signal lie: the grid of pixel centres in [-1, 1]^m."""

import torch
from jaxtyping import Float
from torch import Tensor


def coordinate_grid(shape: tuple[int, ...]) -> Float[Tensor, "C m"]:
    """List the pixel centres of a grid, x_i = -1 + (2 i + 1) / P along an axis of P pixels.

    Args:
        shape: pixels along each of the m axes.

    Returns:
        [C, m] float32 coordinates, C = product of the shape, the last axis fastest ('ij' order: row, column, ...).
    """
    axes = [torch.arange(1, 2 * pixels, 2, dtype=torch.float64) / pixels - 1 for pixels in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(shape)).float()
