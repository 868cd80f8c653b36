"""The layers gates are built of, with initial values drawn from the given generator only."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.coding.gates.base import GateOutput
from nid_dist.dictionary.activations import UnsetLinear, initialise_linear

# Signals are in [0, 1]: without further knowledge, a bias is the middle.
MID_LEVEL = 0.5


class _UnsetConv2d(nn.Conv2d):
    """As `UnsetLinear`."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


def convolution(inputs: int, outputs: int, kernel: int, generator: torch.Generator, *, stride: int = 1) -> nn.Conv2d:
    """Make a padded convolution with He's initial values: H and W become ceil(H / stride) and ceil(W / stride)."""
    layer = _UnsetConv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    assert layer.bias is not None
    initialise_linear(
        layer.weight.flatten(1), layer.bias, activation="relu", first=False, omega=1.0, generator=generator
    )
    return layer


class CodeHead(nn.Module):
    """The last linear layer: features to n logits and d biases.

    At the start a code has unit norm, about: logits of standard deviation n^(-1/2), as large for any n, and the biases
    are constant. `level` is the root mean square of the features at initialisation, which the weights divide out. With
    a `rank` below the number of features they are first mapped to so many, which the n logits are linear in: very many
    experts then cost a gate a few numbers each.
    """

    def __init__(
        self,
        features: int,
        experts: int,
        channels: int,
        generator: torch.Generator,
        *,
        level: float = 1.0,
        bias: float = MID_LEVEL,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.experts = experts
        self.reduced: UnsetLinear | None = None
        if rank is not None and rank < features:
            self.reduced = UnsetLinear(features, rank)
            with torch.no_grad():
                self.reduced.weight.normal_(0, 1 / (level * math.sqrt(features)), generator=generator)
                self.reduced.bias.zero_()
            features, level = rank, 1.0
        self.linear = UnsetLinear(features, experts + channels)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.weight[:experts].normal_(0, 1 / (level * math.sqrt(features * experts)), generator=generator)
            self.linear.bias.zero_()
            self.linear.bias[experts:].fill_(bias)

    def forward(self, features: Float[Tensor, "T features"]) -> GateOutput:
        """Predict codes from features."""
        output = self.linear(features if self.reduced is None else self.reduced(features))
        return GateOutput(output[:, : self.experts], output[:, self.experts :])
