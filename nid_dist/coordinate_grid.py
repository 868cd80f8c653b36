"""Where the samples of a signal lie: the grid of pixel centres in [-1, 1]^m."""

import torch
from jaxtyping import Float
from torch import Tensor


def coordinate_grid(shape: tuple[int, ...]) -> Float[Tensor, "C m"]:
    """List the pixel centres of a grid, x_i = -1 + (2 i + 1) / P along an axis of P pixels, P in `shape`.

    The last axis is the fastest ('ij' order: row, column, ...).
    """
    axes = [torch.arange(1, 2 * pixels, 2, dtype=torch.float64) / pixels - 1 for pixels in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(shape)).float()
