"""Cubic B-splines on a grid: many features, of which a coordinate meets 4^m and no more are computed."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.dictionary.encodings import Encoding

# The mean square of a cubic B-spline over one cell of its grid.
_SQUARE = 151 / 315


class Splines(Encoding):
    """Products of cubic B-splines, one at each centre of a grid of `side`^m cells on the cube.

    With a linear layer behind it, this is a grid of learned features, interpolated twice differentiably. Beyond the
    outermost centres the outermost splines are held, so that the sum of all is constant on the whole cube.

    Args:
        in_dim: m.
        features: at least 4^m; the nearest power of a whole number of cells is taken.
    """

    def __init__(self, in_dim: int, features: int) -> None:
        self.side = spline_side(features, in_dim)
        super().__init__(in_dim, self.side**in_dim)
        # A mean square of 1/2, as the trunk's initial weights expect.
        self.amplitude = (self.side / _SQUARE) ** (in_dim / 2) * math.sqrt(0.5)

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch e"]:
        """Encode coordinates, with zeros for all splines that do not reach them."""
        places, weights = self.neighbours(coords)
        empty = weights.new_zeros(*weights.shape[:-1], self.out_dim)
        return empty.scatter_add(-1, places, weights)

    def through(self, coords: Float[Tensor, "*batch m"], layer: nn.Linear) -> Float[Tensor, "*batch h"]:
        """What a linear layer makes of the encoding, without its zeros.

        Args:
            coords: in [-1, 1]^m.
            layer: of `out_dim` inputs.

        Returns:
            The layer's outputs.
        """
        places, weights = self.neighbours(coords)
        table = layer.weight.t().contiguous()
        flat = F.embedding_bag(
            places.flatten(0, -2), table, per_sample_weights=weights.flatten(0, -2).to(table.dtype), mode="sum"
        )
        outputs = flat if layer.bias is None else flat + layer.bias
        return outputs.unflatten(0, coords.shape[:-1]) if coords.dim() != 2 else outputs

    def neighbours(
        self, coords: Float[Tensor, "*batch m"]
    ) -> tuple[Int[Tensor, "*batch s"], Float[Tensor, "*batch s"]]:
        """The splines that reach a coordinate, s = 4^m, and their values there.

        Args:
            coords: in [-1, 1]^m.

        Returns:
            Features and their values; at the border a feature may be named twice, and its values are to be added.
        """
        position = (coords + 1) * (self.side / 2) - 0.5
        low = position.detach().floor()
        t = position - low
        values = torch.stack([(1 - t) ** 3, (3 * t - 6) * t * t + 4, ((3 - 3 * t) * t + 3) * t + 1, t**3], -1) / 6
        cells = (low[..., None] + torch.arange(-1, 3, device=coords.device)).long().clamp(0, self.side - 1)
        places, weights = cells[..., 0, :], values[..., 0, :]
        for axis in range(1, self.in_dim):
            places = (places[..., :, None] * self.side + cells[..., axis, None, :]).flatten(-2)
            weights = (weights[..., :, None] * values[..., axis, None, :]).flatten(-2)
        return places, self.amplitude * weights


def spline_side(features: int, in_dim: int) -> int:
    """Cells along an axis of a grid of about so many."""
    return max(4, round(features ** (1 / in_dim)))
