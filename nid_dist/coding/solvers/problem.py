"""The least-squares problem of a code, reduced to as few numbers as carry the whole measurement.

f is linear in (alpha, beta), so a solver needs the atoms and the signals only up to inner products. For linear heads these
pass through K = Phi^T Phi and z = Phi^T y, Phi = R phi: with K = L L^T the atoms become the rows W_j L and the signal
L^-1 z, d*h numbers each, however many measurements there were. The bias is eliminated by centring.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Measurement

_ROWS = 16384  # measurements per pass: bounds memory at any number of measurements


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
    """

    atoms: Float[Tensor, "n D"]
    targets: Float[Tensor, "T D"]
    atom_means: Float[Tensor, "n d"]
    target_means: Float[Tensor, "T d"]
    unreachable: Float[Tensor, "T"]

    def signals(self, part: slice) -> "Problem":
        """The problem of some of the signals."""
        return Problem(
            self.atoms, self.targets[part], self.atom_means, self.target_means[part], self.unreachable[part]
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
    """
    heads = dictionary.experts
    if through == "atoms":
        return _through_atoms(dictionary, measurement, measured)
    if isinstance(heads, LinearHeads):
        if measurement.size > heads.width:
            return _through_features(dictionary, heads, measurement, measured)
    elif measurement.size * dictionary.channels > dictionary.size:
        return _through_gram(dictionary, measurement, measured)
    return _through_atoms(dictionary, measurement, measured)


def _through_atoms(dictionary: Dictionary, measurement: Measurement, measured: Tensor) -> Problem:
    experts, channels = dictionary.size, dictionary.channels
    parts = [
        flat.unflatten(1, (experts, channels))
        for _, flat in measurement.chunks(lambda x: dictionary.atoms(x).transpose(0, 1).flatten(1), _ROWS)
    ]
    atoms = torch.cat(parts).transpose(0, 1)
    means, target_means = atoms.mean(1), measured.mean(1)
    scale = measurement.size**-0.5
    return Problem(
        ((atoms - means[:, None]) * scale).flatten(1),
        ((measured - target_means[:, None]) * scale).flatten(1),
        means,
        target_means,
        measured.new_zeros(len(measured)),
    )


def _through_features(
    dictionary: Dictionary, heads: LinearHeads, measurement: Measurement, measured: Tensor
) -> Problem:
    gram, cross, mean, target_means, energy = _statistics(dictionary.trunk, measurement, measured)
    factor, inverse = _factorise(gram)
    reduced = torch.einsum("hj,thd->tdj", inverse.t(), cross)
    dtype = heads.rows.dtype
    atoms = torch.einsum("ndh,hj->ndj", heads.weight, factor.to(dtype))
    atom_means = torch.einsum("ndh,h->nd", heads.weight, mean.to(dtype)) + heads.offset
    unreachable = (energy - reduced.square().sum((1, 2))).clamp_min(0)
    return Problem(
        atoms.flatten(1), reduced.flatten(1).to(dtype), atom_means, target_means.to(dtype), unreachable.to(dtype)
    )


def _through_gram(dictionary: Dictionary, measurement: Measurement, measured: Tensor) -> Problem:
    experts, channels = dictionary.size, dictionary.channels
    gram = measured.new_zeros(experts, experts, dtype=torch.float64)
    cross = measured.new_zeros(len(measured), experts, dtype=torch.float64)
    means = measured.new_zeros(experts, channels, dtype=torch.float64)
    target_means = measured.double().mean(1)
    rows = max(1, _ROWS * 256 // (experts * channels))
    for part, flat in measurement.chunks(lambda x: dictionary.atoms(x).transpose(0, 1).flatten(1), rows):
        atoms = flat.double().unflatten(1, (experts, channels))
        means += atoms.sum(0)
        joined = atoms.transpose(0, 1).flatten(1)
        gram += joined @ joined.t()
        cross += (measured[:, part].double() - target_means[:, None]).flatten(1) @ joined.t()
    means /= measurement.size
    gram = gram / measurement.size - means @ means.t()
    cross /= measurement.size
    factor, inverse = _factorise(gram)
    reduced = cross @ inverse.t()
    energy = (measured.double() - target_means[:, None]).square().sum(2).mean(1)
    dtype = measured.dtype
    return Problem(
        factor.to(dtype),
        reduced.to(dtype),
        means.to(dtype),
        target_means.to(dtype),
        (energy - reduced.square().sum(1)).clamp_min(0).to(dtype),
    )


def _statistics(
    trunk: torch.nn.Module, measurement: Measurement, measured: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    # In float64: in float32 the factorisation fails at relative eigenvalues of 1e-5, which features reach.
    width, dtype = trunk.out_dim, torch.float64
    gram = measured.new_zeros(width, width, dtype=dtype)  # type: ignore[call-overload]
    total = measured.new_zeros(width, dtype=dtype)  # type: ignore[call-overload]
    cross = measured.new_zeros(len(measured), width, measured.shape[2], dtype=dtype)  # type: ignore[call-overload]
    target_means = measured.mean(1, dtype=dtype)
    energy = measured.new_zeros(len(measured), dtype=dtype)
    for part, phi in measurement.chunks(trunk, _ROWS):
        features, signals = phi.to(dtype), measured[:, part].to(dtype) - target_means[:, None]
        gram += features.t() @ features
        total += features.sum(0)
        cross += torch.einsum("ch,tcd->thd", features, signals)
        energy += signals.square().sum((1, 2))
    size = measurement.size
    mean = total / size
    # `cross` needs no correction: the centred signals sum to zero.
    return gram / size - torch.outer(mean, mean), cross / size, mean, target_means, energy / size


def _factorise(gram: Float[Tensor, "p p"]) -> tuple[Float[Tensor, "p q"], Float[Tensor, "q p"]]:
    """L with gram = L L^T, and its left inverse; directions below rounding are left out."""
    values, vectors = torch.linalg.eigh(gram)
    keep = values > 1e-12 * values[-1].clamp_min(1e-300)
    values, vectors = values[keep], vectors[:, keep]
    return vectors * values.sqrt(), (vectors / values.sqrt()).t()
