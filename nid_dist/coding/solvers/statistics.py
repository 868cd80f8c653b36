"""What linear heads need to know of measurements: inner products of features and signals, gathered in passes.

With Phi = R phi, a measurement of any size enters a least-squares fit through K = Phi^T M Phi and z = Phi^T M y alone,
M the weights (design: K, z). The constant function is eliminated: what it measures, R 1, is not one for line integrals.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.dictionary.trunk import Trunk
from nid_dist.measurements.sampling import Measurement

FLOATS = 2**24
"""Evaluated per pass: bounds memory at any number of measurements and experts."""


@dataclass(frozen=True)
class Statistics:
    """Weighted means over the measurements, in float64, of features and signals less their projections on R 1."""

    gram: Float[Tensor, "h h"]  # inner products of the centred features
    cross: Float[Tensor, "T h d"]  # those of the centred signals with the centred features
    means: Float[Tensor, "h"]  # of the features: their projections on the constant's measurements
    target_means: Float[Tensor, "T d"]  # of the signals
    energy: Float[Tensor, "T"]  # squared norms of the centred signals, over all channels
    constant: Float[Tensor, ""]  # squared norm of R 1; one where f is sampled
    count: Float[Tensor, ""]  # sum of the weights; without weights M


def gather_statistics(
    trunk: Trunk, measurement: Measurement, measured: Float[Tensor, "T M d"], weights: Float[Tensor, "M"] | None = None
) -> Statistics:
    """Pass over the measurements once, some at a time, for the statistics of the trunk's features."""
    width = trunk.out_dim
    # In float64: in float32 the factorisation fails at relative eigenvalues of 1e-5, which features reach.
    double = partial(torch.zeros, dtype=torch.float64, device=measured.device)
    gram, sums, cross = double(width, width), double(width), double(len(measured), width, measured.shape[2])
    constant = constant_measured(measurement, measured)
    shares, count = weight_shares(measurement, weights, measured.device)
    square = constant_square(constant, shares)
    target_means = projections(measured, constant, shares, square)
    energy, shift = double(len(measured)), None
    for part, phi in measurement.chunks(trunk, max(1, FLOATS // width)):
        features, ones, share = phi.double(), constant[part], shares[part]
        # About their first mean: a large mean would drown the variances in rounding.
        shift = features.mean(0) / ones.mean().clamp_min(1e-30) if shift is None else shift
        features = features - ones[:, None] * shift
        signals = measured[:, part].double() - ones[:, None] * target_means[:, None]
        weighted = features * share[:, None]
        gram.addmm_(weighted.t(), features)
        sums += weighted.t() @ ones
        cross += torch.einsum("ch,tcd->thd", weighted, signals)
        energy += (share[:, None] * signals.square()).sum((1, 2))
    assert shift is not None
    means = sums / square.clamp_min(1e-300)
    # `cross` needs no correction: the centred signals have no part along the constant.
    centred = gram - square * torch.outer(means, means)
    return Statistics(centred, cross, means + shift, target_means, energy, square, count)


def constant_measured(measurement: Measurement, like: Tensor) -> Float[Tensor, "M"]:
    """R 1, in float64: ones for samples, lengths of lines for line integrals."""
    ones = torch.ones(measurement.size, dtype=torch.float64, device=like.device)

    def one(coords: Tensor) -> Tensor:
        return coords.new_ones(len(coords), 1)

    for part, values in measurement.chunks(one, FLOATS):
        ones[part] = values[:, 0].double()
    return ones


def weight_shares(
    measurement: Measurement, weights: Float[Tensor, "M"] | None, device: torch.device
) -> tuple[Float[Tensor, "M"], Float[Tensor, ""]]:
    """Weights that sum to one (none at all stay zero), and their sum before, in float64."""
    if weights is None:
        weights = torch.ones(measurement.size, dtype=torch.float64, device=device)
    count = weights.double().sum()
    return weights.double() / count.clamp_min(1e-300), count


def constant_square(constant: Float[Tensor, "M"], shares: Float[Tensor, "M"]) -> Float[Tensor, ""]:
    """The squared norm of R 1."""
    return (shares * constant.square()).sum()


def projections(
    measured: Float[Tensor, "T M d"],
    constant: Float[Tensor, "M"],
    shares: Float[Tensor, "M"],
    square: Float[Tensor, ""],
) -> Float[Tensor, "T d"]:
    """How much of R 1 is in each signal: weighted means where f is sampled."""
    along = (shares * constant).to(measured.dtype)
    return torch.einsum("m,tmd->td", along, measured).double() / square.clamp_min(1e-300)
