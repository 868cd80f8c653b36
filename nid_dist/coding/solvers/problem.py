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
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.solvers.statistics import (
    FLOATS,
    Statistics,
    constant_measured,
    constant_square,
    gather_statistics,
    projections,
    weight_shares,
)
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Measurement
from nid_dist.memory import floats_at_once
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.exchange.fetching import from_first
from nid_dist.precision import full_precision


@dataclass(frozen=True)
class Problem:
    """min over alpha, beta of |sum_j alpha_j atom_j - target|^2 + c |beta + sum_j alpha_j atom_mean_j - target_mean|^2.

    Inner products are (weighted) means over the measurements, and sums over channels. "Centred" is what is left after
    the projection on R 1, the measurements of the constant function; means are these projections.
    """

    atoms: Float[Tensor, "n D"]  # centred atoms in D coordinates
    targets: Float[Tensor, "T D"]  # centred signals in the same coordinates
    atom_means: Float[Tensor, "n d"]  # means of the atoms per channel
    target_means: Float[Tensor, "T d"]  # means of the signals per channel
    residual_floor: Float[Tensor, "T"]  # squared norm of the part of each signal that no code can represent
    # Mean squared norm of the atoms, to which ridges are relative; None: of the atoms given. Where they are only a part
    # of the dictionary, that of all n.
    energy: Float[Tensor, ""] = None  # type: ignore[assignment]
    # The mean square c of R 1; None: one, as for samples
    constant: Float[Tensor, ""] = None  # type: ignore[assignment]
    gram: Float[Tensor, "n n"] | None = None  # inner products of all atoms, where they are known

    def __post_init__(self) -> None:
        if self.constant is None:
            object.__setattr__(self, "constant", self.atoms.new_ones(()))
        if self.energy is None:
            norms = torch.linalg.vector_norm(self.atoms, dim=1)
            object.__setattr__(self, "energy", norms.square().mean())

    def signals(self, part: slice) -> "Problem":
        """The problem of some of the signals."""
        return replace(
            self,
            targets=self.targets[part],
            target_means=self.target_means[part],
            residual_floor=self.residual_floor[part],
        )


@torch.no_grad()
@full_precision()
def reduce_problem(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Float[Tensor, "T M d"],
    through: Literal["auto", "atoms"] = "auto",
    weights: Float[Tensor, "M"] | None = None,
    *,
    wait: bool = True,
) -> Problem:
    """Reduce measured signals and a frozen dictionary to a `Problem`.

    "atoms" keeps one number per measurement and channel, in their order, whatever D that makes. Weights are those of
    the measurements' squares, the same for all signals; None: all alike.

    Returns:
        The problem, with D = min(M, h) * d for linear heads and min(M * d, n) for deep experts. With `wait` directions
        that the measurements do not determine are left out, for which a GPU is waited for.

    Raises:
        ValueError: when the experts are sharded.
    """
    if dictionary.exchange.ranks > 1:
        raise ValueError("a problem of some experts only: see solvers/sharded.py, or take dictionary.unsharded()")
    heads = dictionary.experts
    if through == "atoms":
        return _through_atoms(dictionary, measurement, measured, weights)
    if isinstance(heads, LinearHeads):
        if measurement.size > heads.width:
            return _through_features(dictionary, heads, measurement, measured, weights, wait=wait)
    elif measurement.size * dictionary.channels > dictionary.num_experts:
        return _through_gram(dictionary, measurement, measured, weights, wait=wait)
    return _through_atoms(dictionary, measurement, measured, weights)


@torch.no_grad()
@full_precision()
def reduce_owned(dictionary: Dictionary, measurement: Measurement, measured: Float[Tensor, "T M d"]) -> Problem:
    """This rank's part of the problem of a sharded dictionary: its own signals, and the atoms of the experts held here.

    To be called on all ranks that share the experts. The coordinates are the same on all, so that atoms can be sent to
    signals and signals to atoms. Deep experts are reduced to one number per measurement and channel, whatever their
    number: inner products of all atoms, which could be fewer, would need all of them in one place. The problem has E
    atoms, this rank's T signals, of which there may be none, and the energy of all n atoms.
    """
    heads, exchange = dictionary.experts, dictionary.exchange
    if isinstance(heads, LinearHeads) and measurement.size > heads.width:
        problem = _through_features(dictionary, heads, measurement, measured)
    else:
        problem = _through_atoms(dictionary, measurement, measured)
    return replace(problem, energy=exchange.gather(problem.energy[None]).mean())


def measured_atoms(
    dictionary: Dictionary, measurement: Measurement, chosen: Int[Tensor, "U"] | None = None
) -> Iterator[tuple[slice, Float[Tensor, "P U d"]]]:
    """R b_j of the experts held here, or of some of them, some measurements at a time."""
    tensors = [tensor if chosen is None else tensor[chosen] for tensor in dictionary.experts.tensors]
    experts, channels = len(tensors[0]), dictionary.channels
    rows = max(1, FLOATS // max(1, experts * dictionary.experts.floats_per_coordinate))

    def atoms(coords: Tensor) -> Tensor:
        return dictionary.experts.evaluate(dictionary.trunk(coords), tensors).transpose(0, 1).flatten(1)

    for part, flat in measurement.chunks(atoms, rows):
        yield part, flat.unflatten(1, (experts, channels))


def _through_atoms(
    dictionary: Dictionary, measurement: Measurement, measured: Tensor, weights: Tensor | None = None
) -> Problem:
    atoms = torch.cat([part for _, part in measured_atoms(dictionary, measurement)]).transpose(0, 1)
    constant = constant_measured(measurement, measured)
    shares, _ = weight_shares(measurement, weights, measured.device)
    square = constant_square(constant, shares)
    targets, dtype = measured.to(atoms.dtype), atoms.dtype
    means, target_means = (projections(x, constant, shares, square).to(dtype) for x in (atoms, targets))
    ones, scale = constant.to(dtype)[:, None], shares.sqrt().to(dtype)[:, None]
    return Problem(
        ((atoms - ones * means[:, None]) * scale).flatten(1),
        ((targets - ones * target_means[:, None]) * scale).flatten(1),
        means,
        target_means,
        targets.new_zeros(len(targets)),
        constant=square.to(dtype),
    )


def _through_features(
    dictionary: Dictionary,
    heads: LinearHeads,
    measurement: Measurement,
    measured: Tensor,
    weights: Tensor | None = None,
    *,
    wait: bool = True,
) -> Problem:
    known = gather_statistics(dictionary.trunk, measurement, measured, weights)
    factor, inverse = factorise(known.gram, dictionary.exchange) if wait else _triangle(known.gram)
    return problem_of(heads, known, factor, torch.einsum("hj,thd->tdj", inverse.t(), known.cross))


def problem_of(
    heads: LinearHeads, known: Statistics, factor: Float[Tensor, "h q"], reduced: Float[Tensor, "T d q"]
) -> Problem:
    """The problem of linear heads, from statistics of their features, a factor L of inner products, and L^-1 z."""
    dtype = heads.rows.dtype
    atoms = _times(heads.weight, factor.to(dtype))
    atom_means = _times(heads.weight, known.means.to(dtype)[:, None]).squeeze(2) + heads.offset
    residual_floor = (known.energy - reduced.square().sum((1, 2))).clamp_min(0)
    return Problem(
        atoms.flatten(1),
        reduced.flatten(1).to(dtype),
        atom_means,
        known.target_means.to(dtype),
        residual_floor.to(dtype),
        constant=known.constant.to(dtype),
    )


def _times(weight: Float[Tensor, "n d h"], matrix: Float[Tensor, "h q"]) -> Float[Tensor, "n d q"]:
    """Heads times a matrix: a few at a time, since the product copies them from between their offsets."""
    parts = weight.split(max(1, floats_at_once(weight.device, FLOATS) // weight[0].numel()))
    if len(parts) == 1:
        return torch.einsum("ndh,hq->ndq", weight, matrix)
    product, first = weight.new_empty(*weight.shape[:2], matrix.shape[1]), 0
    for part in parts:
        product[first : first + len(part)] = torch.einsum("ndh,hq->ndq", part, matrix)
        first += len(part)
    return product


def _through_gram(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Tensor,
    weights: Tensor | None = None,
    *,
    wait: bool = True,
) -> Problem:
    experts, channels = dictionary.num_experts, dictionary.channels
    double = partial(torch.zeros, dtype=torch.float64, device=measured.device)
    gram, sums, cross = double(experts, experts), double(experts, channels), double(len(measured), experts)
    constant = constant_measured(measurement, measured)
    shares, _ = weight_shares(measurement, weights, measured.device)
    square = constant_square(constant, shares)
    target_means = projections(measured, constant, shares, square)
    energy, shift, dtype = double(len(measured)), None, measured.dtype
    for part, values in measured_atoms(dictionary, measurement):
        ones, root = constant[part][:, None], shares[part].sqrt()[:, None]
        dtype, atoms = values.dtype, values.double()
        # About their first means: a large mean would drown the variances in rounding.
        shift = atoms.mean(0) / ones.mean().clamp_min(1e-30) if shift is None else shift
        atoms = (atoms - ones[..., None] * shift) * root[..., None]
        signals = (measured[:, part].double() - ones * target_means[:, None]) * root
        sums += (atoms * (ones * root)[..., None]).sum(0)
        joined = atoms.transpose(0, 1).flatten(1)
        gram.addmm_(joined, joined.t())
        cross.addmm_(signals.flatten(1), joined.t())
        energy += signals.square().sum((1, 2))
    assert shift is not None
    means = sums / square.clamp_min(1e-300)
    gram = gram - square * (means @ means.t())
    factor, inverse = factorise(gram) if wait else _triangle(gram)
    reduced = cross @ inverse.t()
    residual_floor = (energy - reduced.square().sum(1)).clamp_min(0)
    return Problem(
        factor.to(dtype),
        reduced.to(dtype),
        (means + shift).to(dtype),
        target_means.to(dtype),
        residual_floor.to(dtype),
        constant=square.to(dtype),
    )


def factorise(
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


def _triangle(gram: Float[Tensor, "p p"]) -> tuple[Float[Tensor, "p p"], Float[Tensor, "p p"]]:
    """L with gram = L L^T, and its inverse, by what does not wait."""
    factor = cholesky_factor(gram)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return factor, torch.linalg.solve_triangular(factor, eye, upper=False)


def cholesky_factor(gram: Float[Tensor, "*T p p"]) -> Float[Tensor, "*T p p"]:
    """L with gram = L L^T, a triangle, in float64: sooner found than by eigenvectors, and without waiting for a GPU.

    Directions that nothing determines are given a little weight rather than left out, of the size of the rounding.
    Where there is no such factor, since the products are not finite, it is not a number.
    """
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(1e-280)[..., None, None]
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, failed = torch.linalg.cholesky_ex(gram + 1e-14 * trace * eye)
    if gram.device.type == "cpu" and not failed.any():
        return factor
    more = torch.where(failed > 0, 1e-11, 1e-14)[..., None, None]
    factor, failed = torch.linalg.cholesky_ex(gram + more * trace * eye)
    return factor.masked_fill(failed[..., None, None] > 0, torch.nan)
