"""The least-squares problem of a code, reduced to as few numbers as carry the whole measurement.

f is linear in (alpha, beta), so a solver needs the atoms and the signals only up to inner products. For linear heads
these pass through K = Phi^T Phi and z = Phi^T y, Phi = R phi: with K = L L^T the atoms become the rows W_j L and the
signal L^-1 z, d*h numbers each, however many measurements there were. The bias is eliminated by centring.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.dictionary.trunk import Trunk
from nid_dist.measurements.sampling import Measurement
from nid_dist.parallel.exchange import Exchange
from nid_dist.parallel.fetching import from_first

_NUMBERS = 2**24  # evaluated per pass: bounds memory at any number of measurements and experts


@dataclass(frozen=True)
class Problem:
    """min over alpha, beta of |sum_j alpha_j atoms_j - target|^2 + |beta + sum_j alpha_j atom_means_j - target_mean|^2.

    Inner products are means over the measurements (and sums over channels).

    Args:
        atoms: centred atoms in D coordinates.
        targets: centred signals in the same coordinates.
        atom_means: means of the atoms per channel.
        target_means: means of the signals per channel.
        unreachable: squared norm of the part of each signal that no code can represent.
        energy: mean squared norm of the atoms, to which ridges are relative; None: of the atoms given. Where they are
            only a part of the dictionary, that of all n.
    """

    atoms: Float[Tensor, "n D"]
    targets: Float[Tensor, "T D"]
    atom_means: Float[Tensor, "n d"]
    target_means: Float[Tensor, "T d"]
    unreachable: Float[Tensor, "T"]
    energy: Float[Tensor, ""] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.energy is None:
            object.__setattr__(self, "energy", self.atoms.square().sum(1).mean())

    def signals(self, part: slice) -> "Problem":
        """The problem of some of the signals."""
        return replace(
            self,
            targets=self.targets[part],
            target_means=self.target_means[part],
            unreachable=self.unreachable[part],
        )


@torch.no_grad()
def reduce_problem(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Float[Tensor, "T M d"],
    through: Literal["auto", "atoms"] = "auto",
) -> Problem:
    """Reduce measured signals and a frozen dictionary to a `Problem`.

    Args:
        dictionary: all n experts must be here.
        measurement: R, the same for all signals.
        measured: what R gave for each signal.
        through: "atoms" keeps one number per measurement and channel, in their order, whatever D that makes.

    Returns:
        The problem, with D = min(M, h) * d for linear heads and min(M * d, n) for deep experts.

    Raises:
        ValueError: when the experts are sharded.
    """
    if dictionary.exchange.ranks > 1:
        raise ValueError("a problem of some experts only: see solvers/sharded.py, or take dictionary.whole()")
    heads = dictionary.experts
    if through == "atoms":
        return _through_atoms(dictionary, measurement, measured)
    if isinstance(heads, LinearHeads):
        if measurement.size > heads.width:
            return _through_features(dictionary, heads, measurement, measured)
    elif measurement.size * dictionary.channels > dictionary.size:
        return _through_gram(dictionary, measurement, measured)
    return _through_atoms(dictionary, measurement, measured)


@torch.no_grad()
def reduce_owned(dictionary: Dictionary, measurement: Measurement, measured: Float[Tensor, "T M d"]) -> Problem:
    """This rank's part of the problem of a sharded dictionary: its own signals, and the atoms of the experts held here.

    To be called on all ranks that share the experts. The coordinates are the same on all, so that atoms can be sent
    to signals and signals to atoms. Deep experts are reduced to one number per measurement and channel, whatever
    their number: inner products of all atoms, which could be fewer, would need all of them in one place.

    Args:
        dictionary: with experts sharded over ranks, or not.
        measurement: R, the same for all signals of all ranks.
        measured: what R gave for each signal of this rank; there may be none.

    Returns:
        A problem of E atoms and T signals, with the energy of all n atoms.
    """
    heads, exchange = dictionary.experts, dictionary.exchange
    if isinstance(heads, LinearHeads) and measurement.size > heads.width:
        problem = _through_features(dictionary, heads, measurement, measured)
    else:
        problem = _through_atoms(dictionary, measurement, measured)
    return replace(problem, energy=exchange.gather(problem.energy[None]).mean())


def _through_atoms(dictionary: Dictionary, measurement: Measurement, measured: Tensor) -> Problem:
    atoms = torch.cat([part for _, part in _atoms(dictionary, measurement)]).transpose(0, 1)
    targets = measured.to(atoms.dtype)
    means, target_means = atoms.mean(1), targets.mean(1)
    scale = measurement.size**-0.5
    return Problem(
        ((atoms - means[:, None]) * scale).flatten(1),
        ((targets - target_means[:, None]) * scale).flatten(1),
        means,
        target_means,
        targets.new_zeros(len(targets)),
    )


def _atoms(dictionary: Dictionary, measurement: Measurement) -> Iterator[tuple[slice, Float[Tensor, "P n d"]]]:
    """R b_j of the experts held here, some measurements at a time."""
    experts, channels = dictionary.experts.experts, dictionary.channels
    rows = max(1, _NUMBERS // (experts * dictionary.experts.numbers_per_coordinate))
    for part, flat in measurement.chunks(lambda x: dictionary.atoms(x).transpose(0, 1).flatten(1), rows):
        yield part, flat.unflatten(1, (experts, channels))


def _through_features(
    dictionary: Dictionary, heads: LinearHeads, measurement: Measurement, measured: Tensor
) -> Problem:
    gram, cross, mean, target_means, energy = _statistics(dictionary.trunk, measurement, measured)
    factor, inverse = _factorise(gram, dictionary.exchange)
    reduced = torch.einsum("hj,thd->tdj", inverse.t(), cross)
    dtype = heads.rows.dtype
    atoms = torch.einsum("ndh,hj->ndj", heads.weight, factor.to(dtype))
    atom_means = torch.einsum("ndh,h->nd", heads.weight, mean.to(dtype)) + heads.offset
    unreachable = (energy - reduced.square().sum((1, 2))).clamp_min(0)
    return Problem(
        atoms.flatten(1), reduced.flatten(1).to(dtype), atom_means, target_means.to(dtype), unreachable.to(dtype)
    )


def _through_gram(dictionary: Dictionary, measurement: Measurement, measured: Tensor) -> Problem:
    experts, channels, size = dictionary.size, dictionary.channels, measurement.size
    double = partial(torch.zeros, dtype=torch.float64, device=measured.device)
    gram, means, cross = double(experts, experts), double(experts, channels), double(len(measured), experts)
    energy, target_means = double(len(measured)), measured.mean(1, dtype=torch.float64)
    shift, dtype = None, measured.dtype
    for part, values in _atoms(dictionary, measurement):
        dtype, atoms = values.dtype, values.double()
        # About their first means: a large mean would drown the variances in rounding.
        shift = atoms.mean(0) if shift is None else shift
        atoms = atoms - shift
        signals = measured[:, part].double() - target_means[:, None]
        means += atoms.sum(0)
        joined = atoms.transpose(0, 1).flatten(1)
        gram.addmm_(joined, joined.t())
        cross.addmm_(signals.flatten(1), joined.t())
        energy += signals.square().sum((1, 2))
    assert shift is not None
    means, cross, energy = means / size, cross / size, energy / size
    factor, inverse = _factorise(gram / size - means @ means.t())
    reduced = cross @ inverse.t()
    unreachable = (energy - reduced.square().sum(1)).clamp_min(0)
    return Problem(*(x.to(dtype) for x in (factor, reduced, means + shift, target_means, unreachable)))


def _statistics(trunk: Trunk, measurement: Measurement, measured: Tensor) -> tuple[Tensor, ...]:
    # In float64: in float32 the factorisation fails at relative eigenvalues of 1e-5, which features reach.
    width, size = trunk.out_dim, measurement.size
    double = partial(torch.zeros, dtype=torch.float64, device=measured.device)
    gram, mean, cross = double(width, width), double(width), double(len(measured), width, measured.shape[2])
    energy, target_means = double(len(measured)), measured.mean(1, dtype=torch.float64)
    shift = None
    for part, phi in measurement.chunks(trunk, max(1, _NUMBERS // width)):
        features = phi.double()
        # About their first mean: a large mean would drown the variances in rounding.
        shift = features.mean(0) if shift is None else shift
        features = features - shift
        signals = measured[:, part].double() - target_means[:, None]
        gram.addmm_(features.t(), features)
        mean += features.sum(0)
        cross += torch.einsum("ch,tcd->thd", features, signals)
        energy += signals.square().sum((1, 2))
    assert shift is not None
    mean = mean / size
    # `cross` needs no correction: the centred signals sum to zero.
    return gram / size - torch.outer(mean, mean), cross / size, mean + shift, target_means, energy / size


def _factorise(
    gram: Float[Tensor, "p p"], exchange: Exchange | None = None
) -> tuple[Float[Tensor, "p q"], Float[Tensor, "q p"]]:
    """L with gram = L L^T, and its left inverse; directions below rounding are left out."""
    values, vectors = torch.linalg.eigh(gram)
    if exchange is not None:
        # Of equal eigenvalues every rank's rounding makes other vectors, and hence other coordinates.
        values, vectors = from_first(exchange, torch.cat([values[None], vectors])).split([1, len(gram)])
        values = values[0]
    keep = values > 1e-12 * values[-1].clamp_min(1e-300)
    values, vectors = values[keep], vectors[:, keep]
    return vectors * values.sqrt(), (vectors / values.sqrt()).t()
