"""Encodings: how a coordinate becomes the first features of the trunk. None of them is trained."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.config.schema import Encoding as EncodingConfig
from nid_dist.dictionary.kernels import frequencies
from nid_dist.precision import full_precision

# The mean square of a cubic B-spline over one cell of its grid.
_SQUARE = 151 / 315


class Encoding(nn.Module, ABC):
    """A fixed map from R^m to `out_dim` features."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim

    @abstractmethod
    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch e"]:
        """Encode coordinates in [-1, 1]^m."""


class Identity(Encoding):
    """The coordinate itself."""

    def __init__(self, in_dim: int) -> None:
        super().__init__(in_dim, in_dim)

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch m"]:
        """Return the coordinates."""
        return coords


class Cosines(Encoding):
    """Eigenfunctions of the Laplacian on the cube with reflecting walls: products of cos(pi q_i (x_i + 1) / 2).

    They are orthonormal over the cube and, up to P^m of them, on a grid of P^m pixel centres too (the DCT-II basis).
    So what a signal is between its pixels follows from the pixels: no other encoding here has that property. The lowest
    frequencies come first, out of the smallest cube of frequencies q that holds them; the constant is left out.
    """

    orders: Tensor
    amplitudes: Tensor

    def __init__(self, in_dim: int, features: int) -> None:
        super().__init__(in_dim, features)
        side = round((features + 1) ** (1 / in_dim))
        side += side**in_dim < features + 1
        grid = torch.cartesian_prod(*[torch.arange(side)] * in_dim).reshape(-1, in_dim)
        squared = grid.square().sum(1)
        orders = grid[squared.argsort(stable=True)][1 : features + 1].to(torch.get_default_dtype())
        self.register_buffer("orders", 0.5 * math.pi * orders)
        self.register_buffer("amplitudes", 2.0 ** (0.5 * (orders > 0).sum(1)))

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch e"]:
        """Encode coordinates, each feature of unit mean square over the cube."""
        with full_precision():
            waves = self.amplitudes.to(coords.dtype)
            for axis in range(self.in_dim):
                waves = waves * torch.cos((coords[..., axis : axis + 1] + 1) * self.orders[:, axis].to(coords.dtype))
            return waves


class Positional(Encoding):
    """[x, sin(pi 2^l x_i), cos(pi 2^l x_i)], octaves l = 0 ... L - 1 (Mildenhall et al. 2020, eq. 4)."""

    octaves: Tensor

    def __init__(self, in_dim: int, octaves: int) -> None:
        super().__init__(in_dim, in_dim * (1 + 2 * octaves))
        self.register_buffer("octaves", math.pi * 2.0 ** torch.arange(octaves))

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch e"]:
        """Return the coordinates, then all sines, then all cosines; each by coordinate, then octave."""
        phase = (coords[..., None] * self.octaves).flatten(-2)
        return torch.cat([coords, phase.sin(), phase.cos()], -1)


class Sinusoids(Encoding):
    """[sin(x B^T), cos(x B^T)], no 2 pi and no factor: Fourier features (Tancik et al. 2020; Rahimi and Recht 2007).

    A row of B is a frequency, in radians per unit of x. Multiplied by features^(-1/2), the inner product of two
    encodings would estimate the kernel that B was drawn for. The factor is left out, for the random kernels too, so
    that every entry has a mean square of 1/2 whatever their number: the scale that the initial weights of the trunk
    expect.
    """

    basis: Tensor

    def __init__(self, basis: Float[Tensor, "features m"]) -> None:
        super().__init__(basis.shape[1], 2 * basis.shape[0])
        self.register_buffer("basis", basis)

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch e"]:
        """Return all sines, then all cosines."""
        # In bf16 the product would round phases of hundreds of radians to whole radians, in tf32 to tenths.
        with full_precision():
            phase = coords @ self.basis.t()
        return torch.cat([phase.sin(), phase.cos()], -1)


class RadialBasis(Encoding):
    """exp(-scale^2 |x - c|^2 / 2), Gaussian bumps of standard deviation 1 / scale at fixed centres c in [-1, 1]^m."""

    centres: Tensor

    def __init__(self, centres: Float[Tensor, "features m"], scale: float) -> None:
        super().__init__(centres.shape[1], centres.shape[0])
        self.scale = scale
        self.register_buffer("centres", centres)

    def forward(self, coords: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch e"]:
        """Return the bumps' values."""
        # Summed differences: exact near a centre, where |x|^2 - 2 x.c + |c|^2 cancels, and twice differentiable there,
        # where torch.cdist is not.
        squared = (coords[..., :1] - self.centres[:, 0]).square()
        for axis in range(1, self.in_dim):
            squared = squared + (coords[..., axis : axis + 1] - self.centres[:, axis]).square()
        return torch.exp(-0.5 * self.scale**2 * squared)


class Splines(Encoding):
    """Products of cubic B-splines, one at each centre of a grid of `side`^m cells on the cube.

    With a linear layer behind it, this is a grid of learned features, interpolated twice differentiably. Beyond the
    outermost centres the outermost splines are held, so that the sum of all is constant on the whole cube.

    Args:
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
        """What a linear layer of `out_dim` inputs makes of the encoding, without its zeros."""
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

        At the border a feature may be named twice, and its values are to be added.
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


def make_encoding(config: EncodingConfig, in_dim: int, generator: torch.Generator) -> Encoding:
    """Make the encoding that a configuration asks for, with frequencies and centres drawn, as buffers."""
    match config.kind:
        case "identity":
            return Identity(in_dim)
        case "cosine":
            return Cosines(in_dim, config.features)
        case "positional":
            return Positional(in_dim, config.octaves)
        case "spline":
            return Splines(in_dim, config.features)
        case "rbf":
            return RadialBasis(_spread_centres(config.features, in_dim, generator), config.scale)
    basis = frequencies(
        "gaussian" if config.kind == "fourier" else config.kind,
        config.features,
        in_dim,
        config.scale,
        generator=generator,
        nu=config.nu,
        alpha=config.alpha,
        gamma=config.gamma,
    )
    return Sinusoids(basis)


def _spread_centres(count: int, dim: int, generator: torch.Generator) -> Float[Tensor, "count dim"]:
    # A scrambled Sobol sequence: uniform, and without the holes and clusters of independent draws.
    seed = int(torch.randint(2**31, (1,), generator=generator))
    unit = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    return (2 * unit - 1).to(torch.get_default_dtype())
