"""The resnet gate of the reference: residual blocks at full resolution, and a linear layer over all pixels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput, as_image
from nid_dist.coding.gates.layers import CodeHead, convolution
from nid_dist.dictionary.activations import UnsetLinear

BLOCKS = 4


class ResNetGate(nn.Module):
    """3x3 to width/2, 3x3 to width, four residual blocks of two 5x5, 1x1, all pixels of a channel to one, linear.

    `width` is 256 in the reference.
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
        self.stem = nn.ModuleList(
            [
                convolution(channels, max(1, width // 2), 3, generator),
                convolution(max(1, width // 2), width, 3, generator),
            ]
        )
        self.blocks = nn.ModuleList([ResidualBlock(width, generator) for _ in range(BLOCKS)])
        self.mix = convolution(width, width, 1, generator)
        pixels = grid_shape[0] * grid_shape[1]
        self.pool = UnsetLinear(pixels, 1)
        with torch.no_grad():
            # A mean with some preference for places. The one set of weights serves every channel, all of which are
            # positive: weights of mean zero would, half of the time, send all channels below the ReLU that follows.
            self.pool.weight.normal_(1 / pixels, 0.25 * pixels**-0.5, generator=generator)
            self.pool.bias.zero_()
        self.head = CodeHead(width, experts, channels, generator, rank=rank)

    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Predict codes."""
        hidden = as_image(values, self.grid_shape)
        for layer in self.stem:
            hidden = layer(hidden).relu()
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.mix(hidden).relu()
        return self.head(self.pool(hidden.flatten(2)).squeeze(2).relu())


class ResidualBlock(nn.Module):
    """relu(x + relu(5x5 relu(5x5 x)))."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = convolution(width, width, 5, generator)
        self.second = convolution(width, width, 5, generator)
        with torch.no_grad():
            # Both summands are positive: with He's values each block would more than double the level.
            self.second.weight.mul_(1 / BLOCKS)

    def forward(self, x: Float[Tensor, "T width H W"]) -> Float[Tensor, "T width H W"]:
        """Add what the block computes."""
        return (x + self.second(self.first(x).relu()).relu()).relu()
