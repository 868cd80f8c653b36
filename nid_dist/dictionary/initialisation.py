"""Initial values that make training robust: orthonormal features, and linear heads that are of use from the first step.

Joint training of gate and experts from random values tends to collapse to a few constant atoms, or stays near the
mean. Started on a basis and on pieces of signals, all atoms differ and the rank is full.
"""

import itertools
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads

_NUMBERS = 2**24  # of windowed signals at a time: bounds memory


@torch.no_grad()
def whiten_features(dictionary: Dictionary, coords: Float[Tensor, "C m"], floor: float = 1e-6) -> None:
    """Fold into the trunk's last (linear) layer the map that makes centred features orthonormal on `coords`.

    Args:
        dictionary: changed in place; nothing is done without a linear trunk output.
        coords: a lattice or a sample of the domain.
        floor: eigenvalues below this share of the largest are not amplified further.
    """
    trunk = dictionary.trunk
    if not trunk.linear_output or not len(trunk.layers):
        return
    last = trunk.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    features = trunk(coords).double()
    mean = features.mean(0)
    centred = features - mean
    values, vectors = torch.linalg.eigh(centred.t() @ centred / len(coords))
    transform = vectors * values.clamp_min(floor * values[-1].item()).rsqrt() @ vectors.t()
    last.weight.copy_((transform @ last.weight.double()).to(last.weight.dtype))
    last.bias.copy_((transform @ (last.bias.double() - mean)).to(last.bias.dtype))


@torch.no_grad()
def initialise_heads(
    dictionary: Dictionary,
    coords: Float[Tensor, "C m"],
    signals: Float[Tensor, "S C d"],
    basis: Literal["cosine", "principal"],
    generator: torch.Generator,
) -> None:
    """Set linear heads to an orthonormal basis of at most 3/4 of the experts, and the rest to pieces of signals.

    All are projected on what the trunk's features span, in its inner product, so that the cost does not depend on the
    number of coordinates beyond one pass. `cosine`: the eigenfunctions of the Laplacian on the cube, lowest frequencies
    first (the DCT basis, in any dimension), along the principal axes of the channels; images are sparse in it.
    `principal`: the signals' principal components. A piece is a signal under a Gaussian window of random place and
    width, which is what an overcomplete dictionary adds to a basis.

    Args:
        dictionary: with linear heads, changed in place.
        coords: shared coordinates.
        signals: a sample of the training signals.
        basis: which.
        generator: of the choice of signals and windows.
    """
    heads = dictionary.experts
    assert isinstance(heads, LinearHeads)
    space = _FeatureSpace(dictionary.trunk(coords))
    points = space.project(signals)
    most = max(1, dictionary.size - dictionary.size // 4)
    if basis == "principal":
        chosen = _principal_components(points, most)
    else:
        chosen = _cosines(space, coords, _channel_axes(signals), most)
    pieces = _pieces(space, signals, coords, dictionary.size - len(chosen), generator)
    norms = pieces.norm(dim=1, keepdim=True)
    random = torch.randn(pieces.shape, generator=generator, dtype=pieces.dtype)
    # A piece of a flat part of a signal is nothing but rounding: take noise instead.
    pieces = torch.where(norms > 1e-2 * norms.mean(), pieces, random)
    rows = torch.cat([chosen, pieces / pieces.norm(dim=1, keepdim=True)])
    weight = space.heads(rows.unflatten(1, (heads.channels, heads.width)))
    first = dictionary.exchange.first_expert
    heads.rows.zero_()
    heads.weight.copy_(weight[first : first + heads.experts].to(heads.rows.dtype))
    heads.offset.copy_(-(heads.weight @ space.mean.to(heads.rows.dtype)))


class _FeatureSpace:
    """Functions that linear heads on features can be, with the mean over coordinates of their product."""

    def __init__(self, features: Float[Tensor, "C h"], ridge: float = 1e-6) -> None:
        self.mean = features.double().mean(0)
        centred = features.double() - self.mean
        width = centred.shape[1]
        gram = centred.t() @ centred / len(centred)
        gram.diagonal().add_(ridge * gram.trace() / width)
        values, vectors = torch.linalg.eigh(gram)
        # An orthonormal basis of the space, as heads (columns); and as functions (rows).
        self.to_heads = vectors / values.sqrt()
        self.functions = (centred @ self.to_heads).t() / len(centred)

    def project(self, signals: Float[Tensor, "S C d"]) -> Float[Tensor, "S D"]:
        """Coordinates, D = d * h, of signals less their means."""
        centred = signals.double() - signals.double().mean(1, keepdim=True)
        return torch.einsum("hc,scd->sdh", self.functions, centred).flatten(1)

    def heads(self, points: Float[Tensor, "n d h"]) -> Float[Tensor, "n d h"]:
        """The heads W with these coordinates."""
        return torch.einsum("ndj,hj->ndh", points, self.to_heads)


def _principal_components(points: Float[Tensor, "S D"], most: int) -> Float[Tensor, "N D"]:
    centred = points - points.mean(0)
    _, singular, components = torch.linalg.svd(centred, full_matrices=False)
    # Components without energy (fewer independent signals than components) would be noise.
    return components[singular > 1e-5 * singular[:1]][:most]


def _cosines(
    space: _FeatureSpace, coords: Float[Tensor, "C m"], axes: Float[Tensor, "d d"], most: int
) -> Float[Tensor, "N D"]:
    dim, channels = coords.shape[1], len(axes)
    # No more waves than the features have dimensions, and no more than a lattice can tell apart.
    count = min(math.ceil(most / channels), len(coords) - 1, space.to_heads.shape[1])
    side = math.ceil((count + 1) ** (1 / dim)) + 1
    grid = sorted(itertools.product(range(2 * side), repeat=dim), key=lambda q: (sum(i * i for i in q), q))
    order = torch.tensor(grid[1 : count + 1], dtype=coords.dtype)
    waves = torch.cos(0.5 * math.pi * order[:, None] * (coords[None] + 1)).prod(2)
    points = space.project(waves[..., None]).flatten(1)
    norms = points.norm(dim=1, keepdim=True)
    full = (waves - waves.mean(1, keepdim=True)).double().square().mean(1).sqrt()
    # Waves finer than the features would come back as something else: leave their place to pieces.
    kept = (norms[:, 0] > 0.7 * full) & (full > 1e-6)
    units = (points / norms.clamp_min(1e-12))[kept]
    return torch.einsum("sh,cd->scdh", units, axes.double()).flatten(2).flatten(0, 1)[:most]


def _channel_axes(signals: Float[Tensor, "S C d"]) -> Float[Tensor, "d d"]:
    """Orthonormal rows: principal axes of the channels' variation, strongest first."""
    centred = (signals - signals.mean(1, keepdim=True)).flatten(0, 1).double()
    return torch.linalg.eigh(centred.t() @ centred).eigenvectors.t().flip(0)


def _pieces(
    space: _FeatureSpace,
    signals: Float[Tensor, "S C d"],
    coords: Float[Tensor, "C m"],
    count: int,
    generator: torch.Generator,
) -> Float[Tensor, "N D"]:
    chosen = torch.randint(len(signals), (count,), generator=generator)
    centres = coords[torch.randint(len(coords), (count,), generator=generator)]
    widths = 0.2 + 0.3 * torch.rand(count, 1, generator=generator)
    parts = [space.project(signals[:0])]
    step = max(1, _NUMBERS // signals[0].numel())
    for first in range(0, count, step):
        part = slice(first, first + step)
        distance = (coords[None] - centres[part, None]).square().sum(-1)
        window = torch.exp(-distance / (2 * widths[part].square()))
        picked = signals[chosen[part]]
        parts.append(space.project((picked - picked.mean(1, keepdim=True)) * window[..., None]))
    return torch.cat(parts)
