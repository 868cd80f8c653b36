"""Activations, and the initial weights that keep the variance of activations from layer to layer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class UnsetLinear(nn.Linear):
    """A linear layer whose values are left to be set: none is drawn, from any generator.

    PyTorch's `skip_init` does the same by way of its meta device, whose first use imports SymPy: half a second.
    """

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Sine(nn.Module):
    """sin(omega x) (SIREN, Sitzmann et al. 2020)."""

    def __init__(self, omega: float) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Apply it elementwise."""
        return torch.sin(self.omega * x)


def make_activation(name: str, omega: float) -> nn.Module:
    """Make an elementwise activation: relu, gelu, sine or tanh.

    Raises:
        ValueError: for an unknown name.
    """
    match name:
        case "relu":
            return nn.ReLU()
        case "gelu":
            return nn.GELU()
        case "sine":
            return Sine(omega)
        case "tanh":
            return nn.Tanh()
    raise ValueError(f"no activation of the name {name!r}")


@torch.no_grad()
def initialise_linear(
    weight: Float[Tensor, "*batch out in"],
    bias: Float[Tensor, "*batch out"] | None,
    *,
    activation: str,
    first: bool,
    omega: float,
    generator: torch.Generator,
) -> None:
    """Set the initial values of a linear layer (or a batch of them) in place.

    Sine: U(-1/in, 1/in) for the network's first layer, U(+-sqrt(6/in)/omega) for later ones (Sitzmann et al. 2020,
    section 3.2). ReLU and GELU: N(0, 2/in) (He et al. 2015, eq. 10). Tanh: N(0, 1/in) (LeCun et al. 1998; the same as
    Glorot and Bengio 2010 between layers of equal width). Biases: U(+-1/sqrt(in)), which spreads the kinks and phases
    of a layer that reads raw coordinates, and adds next to no variance to one with many inputs.

    Args:
        weight: changed in place; its last axis is the fan-in.
        bias: changed in place; None for a layer without.
        activation: relu, gelu, sine or tanh, the one that follows or that the network uses.
        first: whether the layer is the network's first (of importance to sine only).

    Raises:
        ValueError: for an unknown activation.
    """
    inputs = weight.shape[-1]
    match activation:
        case "sine":
            bound = 1 / inputs if first else math.sqrt(6 / inputs) / omega
            weight.uniform_(-bound, bound, generator=generator)
        case "relu" | "gelu":
            weight.normal_(0, math.sqrt(2 / inputs), generator=generator)
        case "tanh":
            weight.normal_(0, math.sqrt(1 / inputs), generator=generator)
        case _:
            raise ValueError(f"no activation of the name {activation!r}")
    if bias is not None:
        bias.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
