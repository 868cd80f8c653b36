"""The conv gate of the reference: two 5x5 convolutions, pooled over the grid, a linear layer."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput, as_image
from nid_dist.coding.gates.layers import CodeHead, convolution


class ConvGate(nn.Module):
    """A gate that sees what a signal contains, but, pooled over the grid, not where.

    The reference sums over the grid. The mean gives the same functions, up to a factor in the last layer's weights, and
    lets one learning rate serve grids of any size: what a step of Adam changes in a sum grows with the pixels. `width`
    are the channels of both convolutions, 256 in the reference.
    """

    def __init__(
        self,
        *,
        experts: int,
        channels: int,
        grid_shape: tuple[int, int],
        width: int,
        generator: torch.Generator,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.grid_shape = grid_shape
        self.first = convolution(channels, width, 5, generator)
        self.second = convolution(width, width, 5, generator)
        # He's values keep the root mean square, about 1/2, of a signal in [0, 1].
        self.head = CodeHead(width, experts, channels, generator, level=0.5, rank=rank)

    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Predict codes."""
        hidden = self.first(as_image(values, self.grid_shape)).relu()
        return self.head(self.second(hidden).relu().mean((2, 3)))
