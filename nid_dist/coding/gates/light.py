"""The light gate, the default: strided convolutions and a linear view of the signal, on contrast-free input."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput, as_image
from nid_dist.coding.gates.layers import CodeHead, convolution

# Convolutions halve the grid until its longer side is at most GRID; the linear view is averaged down to VIEW.
GRID = 4
VIEW = 16
# Contrast below this level (of signals in [0, 1]) is treated as noise and not amplified.
NOISE_LEVEL = 0.01


class LightGate(nn.Module):
    """A small gate for grids of any size.

    f is linear in its code: when a signal's contrast doubles or its mean shifts, the best code doubles or its bias
    shifts. Built in, this need not be learnt: the network sees (values - mean) / contrast, its logits are multiplied by
    the contrast, and its biases are added to the mean. The linear view of the pixels next to the convolutions' features
    gives it the correlations that sparse codes start from. Positions are kept: features are flattened, not pooled.
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
        self.view = (min(grid_shape[0], VIEW), min(grid_shape[1], VIEW))
        stages = max(1, math.ceil(math.log2(max(grid_shape) / GRID)))
        widths = [channels] + [width] * stages
        self.stages = nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            norm = nn.GroupNorm(math.gcd(outputs, 8), outputs)
            self.stages.append(nn.Sequential(convolution(inputs, outputs, 3, generator, stride=2), norm, nn.ReLU()))
        grid = math.ceil(grid_shape[0] / 2**stages) * math.ceil(grid_shape[1] / 2**stages)
        features = width * grid + channels * self.view[0] * self.view[1]
        self.head = CodeHead(features, experts, channels, generator, bias=0.0, rank=rank)

    def forward(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"]) -> GateOutput:
        """Predict codes."""
        mean = values.mean(1)
        centred = values - mean[:, None]
        # One contrast for all channels: their ratio is colour, which the code has to know.
        contrast = (centred.square().mean((1, 2)) + NOISE_LEVEL**2).sqrt()[:, None]
        image = as_image(centred / contrast[..., None], self.grid_shape)
        hidden = image
        for stage in self.stages:
            hidden = stage(hidden)
        view = image if self.view == self.grid_shape else F.adaptive_avg_pool2d(image, self.view)
        output = self.head(torch.cat([hidden.flatten(1), view.flatten(1)], 1))
        return GateOutput(contrast * output.logits, mean + contrast * output.bias)
