"""The trunk phi: the encoding and the layers that all experts share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.dictionary.activations import UnsetLinear, initialise_linear, make_activation
from nid_dist.dictionary.encodings import Splines, make_encoding


class Trunk(nn.Module):
    """phi: coordinates to features; the generator draws frequencies and initial weights."""

    def __init__(self, config: DictionaryConfig, in_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.encoding = make_encoding(config.encoding, in_dim, generator)
        self.mirror = config.encoding.mirror
        self.activation = make_activation(config.activation, config.omega)
        self.linear_output = config.trunk_output == "linear"
        self.layers = nn.ModuleList()
        inputs = self.encoding.out_dim
        for layer in range(config.shared_layers):
            linear = UnsetLinear(inputs, config.width)
            initialise_linear(
                linear.weight,
                linear.bias,
                activation=config.activation,
                first=layer == 0,
                omega=config.omega,
                generator=generator,
            )
            self.layers.append(linear)
            inputs = config.width
        self.out_dim = inputs

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch h"]:
        """Features of coordinates in [-1, 1]^m: phi; the encoding itself where there are no shared layers."""
        coords = self.folded(coords)
        if not len(self.layers):
            return self.encoding(coords)
        last = len(self.layers) - 1
        features = self._first(coords) if last == 0 else self.layers[last](self.hidden(coords))
        return features if self.linear_output else self.activation(features)

    def hidden(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch p"]:
        """What the last shared layer is given."""
        coords = self.folded(coords)
        if len(self.layers) < 2:
            return self.encoding(coords)
        features = self.activation(self._first(coords))
        for layer in self.layers[1:-1]:
            features = self.activation(layer(features))
        return features

    def _first(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch h"]:
        """The first layer's outputs; splines, most of which are zero, are computed without their zeros."""
        layer = self.layers[0]
        if isinstance(self.encoding, Splines) and isinstance(layer, nn.Linear):
            return self.encoding.through(coords, layer)
        return layer(self.encoding(coords))

    def folded(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch m"]:
        """|x| along the axis of symmetry, where there is one."""
        if self.mirror is None:
            return coords
        axes = [coords[..., axis : axis + 1] for axis in range(self.in_dim)]
        axes[self.mirror] = axes[self.mirror].abs()
        return torch.cat(axes, -1)
