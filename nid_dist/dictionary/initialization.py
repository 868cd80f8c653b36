"""Initial values that make training robust: orthonormal features, and linear heads that are of use from the first step.

Joint training of gate and experts from random values tends to collapse to a few constant atoms, or stays near the
mean. Started on a basis and on pieces of signals, all atoms differ and the rank is full.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.encodings import Cosines
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.memory import floats_at_once

_SMALLEST = 1e-6  # share of the largest variance; a smaller one is amplified no more than one at it
_TINY = 1e-6  # of norms: below it there is nothing
_FLOATS = 2**24  # of windowed signals at a time: bounds memory
# Of the waves in a cube of frequencies, the share 1 / 2.7 comes first in three dimensions; fewer waves in lower ones.
_CANDIDATES = 3


@torch.no_grad()
def whiten_features(dictionary: Dictionary, coords: Float[Tensor, "C m"]) -> None:
    """Fold into the trunk's last (linear) layer the map that makes centred features orthonormal on `coords`.

    Nothing is done without a linear trunk output.
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
    if values[-1] <= 1e-12 * mean.square().sum():
        # One coordinate, or features that are constant: there is nothing to make orthonormal.
        return
    transform = vectors * values.clamp_min(_SMALLEST * values[-1].item()).rsqrt() @ vectors.t()
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

    All are projected on what the trunk's features span on the coordinates, in its inner product (the mean over
    coordinates), and have norm 1 in it. `cosine`: the eigenfunctions of the Laplacian on the cube, lowest frequencies
    first (the DCT basis, in any dimension), along the principal axes of the channels; images are sparse in it.
    `principal`: the signals' principal components, the mean signal included. A piece is a signal under a Gaussian
    window of random place and width, which is what an overcomplete dictionary adds to a basis. Nothing is done where
    the features are constant.
    """
    heads = dictionary.experts
    assert isinstance(heads, LinearHeads)
    space = _FeatureSpace(dictionary.trunk(coords))
    if not space.rank:
        return
    most = max(1, dictionary.num_experts - dictionary.num_experts // 4)
    if basis == "principal":
        chosen = _principal_components(space.project(signals), most)
    else:
        chosen = _cosines(space, coords, _channel_axes(signals), most)
    # Everything is drawn for all n and computed for the experts held here, so that initial values do not depend on R.
    exchange, count = dictionary.exchange, dictionary.num_experts - len(chosen)
    owned = slice(exchange.first_expert, exchange.first_expert + heads.num_experts)
    part = slice(max(0, owned.start - len(chosen)), max(0, owned.stop - len(chosen)))
    place = len(chosen[owned])  # of the first piece
    _set(heads, space, torch.arange(place), chosen[owned])
    # Of so many experts there may be that a second copy of them, in double precision, would not fit.
    parts, first = [space.mean.new_zeros(place)], place
    for pieces in _pieces(space, signals, coords, count, part, generator):
        norms = pieces.norm(dim=1)
        _set(heads, space, torch.arange(first, first + len(norms)), pieces / norms[:, None].clamp_min(_TINY))
        first += len(norms)
        parts.append(norms)
    norms = torch.cat(parts)
    # A piece of a flat part of a signal is nothing but rounding: take noise instead.
    flat = norms <= max(1e-2 * exchange.gather(norms).sum().item() / max(1, count), _TINY)
    flat[:place] = False
    places = flat.nonzero()[:, 0].cpu()
    for where, noise in _noise(count, heads.channels * space.rank, places - place + part.start, generator):
        points = noise.to(coords.device)
        _set(heads, space, where - part.start + place, points / points.norm(dim=1, keepdim=True))


def _set(heads: LinearHeads, space: "_FeatureSpace", places: Int[Tensor, "N"], points: Float[Tensor, "N D"]) -> None:
    """Make some heads, whose places ascend, the functions with these coordinates."""
    weight = space.heads(points.unflatten(1, (heads.channels, space.rank))).to(heads.rows.dtype)
    offset = -(weight @ space.mean.to(heads.rows.dtype))
    heads.rows[places.to(heads.rows.device)] = torch.cat([weight.flatten(1), offset], 1)


def _noise(
    count: int, size: int, wanted: Int[Tensor, "W"], generator: torch.Generator
) -> Iterator[tuple[Int[Tensor, "V"], Float[Tensor, "V D"]]]:
    """Some of `count` rows of normal numbers, a few at a time: their numbers, ascending as asked for, and the rows."""
    # A multiple of 16 rows at a time is drawn as all of them together are; so is what is left over, with the last.
    step = max(16, _FLOATS // size // 16 * 16)
    blocks = max(1, count // step)
    for block in range(blocks if len(wanted) else 0):
        first, last = block * step, count if block == blocks - 1 else (block + 1) * step
        drawn = torch.randn(last - first, size, generator=generator, dtype=torch.float64)
        inside = wanted[(wanted >= first) & (wanted < last)]
        if len(inside):
            yield inside, drawn[inside - first]


class _FeatureSpace:
    """Functions that linear heads on features can be, with the mean over coordinates of their product.

    Directions of less than `_SMALLEST` of the largest variance are left out: their heads would be so large that
    rounding decides what they are on the coordinates, and nothing what they are between them.
    """

    def __init__(self, features: Float[Tensor, "C h"]) -> None:
        self.mean = features.double().mean(0)
        centred = features.double() - self.mean
        values, vectors = torch.linalg.eigh(centred.t() @ centred / len(centred))
        kept = values > max(_SMALLEST * values[-1].item(), 1e-12 * self.mean.square().sum().item())
        self.rank = int(kept.sum())
        # An orthonormal basis of the space, as heads (columns); and as functions (rows).
        self.to_heads = vectors[:, kept] / values[kept].sqrt()
        self.functions = (centred @ self.to_heads).t() / len(centred)

    def project(self, signals: Float[Tensor, "S C d"]) -> Float[Tensor, "S D"]:
        """Coordinates, D = d * rank, of signals less their means."""
        parts = []
        for part in signals.split(max(1, _FLOATS // max(1, signals[:1].numel()))):
            double = part.double()
            centred = double - double.mean(1, keepdim=True)
            parts.append(torch.einsum("qc,scd->sdq", self.functions, centred).flatten(1))
        return torch.cat(parts)

    def heads(self, points: Float[Tensor, "n d q"]) -> Float[Tensor, "n d h"]:
        """The heads W with these coordinates."""
        return torch.einsum("ndq,hq->ndh", points, self.to_heads)


def _principal_components(points: Float[Tensor, "S D"], most: int) -> Float[Tensor, "N D"]:
    # Not about their mean: a code has no coefficient for the mean signal, so that an atom must hold it.
    _, singular, components = torch.linalg.svd(points, full_matrices=False)
    # Components without energy (fewer independent signals than components) would be noise.
    return components[singular > 1e-5 * singular[:1]][:most]


def _cosines(
    space: _FeatureSpace, coords: Float[Tensor, "C m"], axes: Float[Tensor, "d d"], most: int
) -> Float[Tensor, "N D"]:
    # No more waves than the features have dimensions, which are fewer than the coordinates.
    count = min(math.ceil(most / len(axes)), space.rank)
    waves = Cosines(coords.shape[1], _CANDIDATES * count).to(coords)(coords).t()
    deviation = waves.std(1, correction=0)
    points = space.project(waves[..., None])
    # Waves finer than the features would come back as something else: leave their place to pieces. On a grid the
    # wave of one period per two pixels vanishes.
    points = points[(points.norm(dim=1) > 0.7 * deviation) & (deviation > 0.05)]
    basis = _independent(points / points.norm(dim=1, keepdim=True), count)
    return torch.einsum("sq,cd->scdq", basis, axes.double()).flatten(2).flatten(0, 1)[:most]


def _independent(points: Float[Tensor, "S q"], most: int) -> Float[Tensor, "N q"]:
    """An orthonormal basis from the first points that those before do not already hold (Gram and Schmidt)."""
    basis = points.new_zeros(0, points.shape[1])
    for point in points:
        # Twice, against rounding. On a grid a wave finer than its pixels looks like a coarser one.
        rest = point - (point @ basis.t()) @ basis
        rest = rest - (rest @ basis.t()) @ basis
        if rest.norm() > 0.3:
            basis = torch.cat([basis, rest[None] / rest.norm()])
        if len(basis) == most:
            break
    return basis


def _channel_axes(signals: Float[Tensor, "S C d"]) -> Float[Tensor, "d d"]:
    """Orthonormal rows: principal axes of the channels' variation, strongest first."""
    centred = (signals - signals.mean(1, keepdim=True)).flatten(0, 1).double()
    return torch.linalg.eigh(centred.t() @ centred).eigenvectors.t().flip(0)


def _pieces(
    space: _FeatureSpace,
    signals: Float[Tensor, "S C d"],
    coords: Float[Tensor, "C m"],
    count: int,
    wanted: slice,
    generator: torch.Generator,
) -> Iterator[Float[Tensor, "N D"]]:
    """Some of `count` random pieces, as many at a time as memory is for."""
    chosen = torch.randint(len(signals), (count,), generator=generator).to(coords.device)
    centres = coords[torch.randint(len(coords), (count,), generator=generator).to(coords.device)]
    widths = 0.2 + 0.3 * torch.rand(count, 1, generator=generator).to(coords.device)
    step = max(1, floats_at_once(coords.device, _FLOATS) // max(1, signals[:1].numel()))
    for first in range(wanted.start, wanted.stop, step):
        part = slice(first, min(first + step, wanted.stop))
        distance = (coords[None] - centres[part, None]).square().sum(-1)
        window = torch.exp(-distance / (2 * widths[part].square()))
        picked = signals[chosen[part]]
        yield space.project((picked - picked.mean(1, keepdim=True)) * window[..., None])
