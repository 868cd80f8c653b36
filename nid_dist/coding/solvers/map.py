"""Codes under a Gaussian prior on the merged head: the most probable signal that the measurements allow."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.prior import Prior
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import Log, Solution
from nid_dist.coding.solvers.statistics import Statistics, gather_statistics
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.errors import UserError
from nid_dist.measurements.sampling import Measurement
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_FLOATS = 2**24  # of products of features, at a time


@dataclass(frozen=True)
class Posterior:
    """N(mean, precision^-1) over the merged heads of T signals that were measured alike."""

    means: Float[Tensor, "T r"]  # one merged head per signal
    precision: Float[Tensor, "r r"]  # of all of them
    statistics: Statistics  # of the measurements

    @torch.no_grad()
    def deviation(self, dictionary: Dictionary, coords: Float[Tensor, "C m"]) -> Float[Tensor, "C d"]:
        """Standard deviation of f at coordinates, the same for all of the signals."""
        channels, width = dictionary.channels, dictionary.trunk.out_dim
        factor, parts = torch.linalg.cholesky(self.precision), []
        for some in coords.split(max(1, floats_at_once(coords.device, _FLOATS) // len(self.precision))):
            features = dictionary.trunk(some).double()
            with_one = torch.cat([features, torch.ones_like(features[:, :1])], 1)
            columns = features.new_zeros(len(some), channels, len(self.precision))
            for channel in range(channels):
                columns[:, channel, _own(channel, channels, width, some.device)] = with_one
            half = torch.linalg.solve_triangular(factor, columns.flatten(0, 1).t(), upper=False)
            parts.append(half.square().sum(0).sqrt().unflatten(0, (-1, channels)))
        return torch.cat(parts).to(coords.dtype)


@torch.no_grad()
@full_precision()
def posterior(
    dictionary: Dictionary, measurement: Measurement, measured: Float[Tensor, "T M d"], prior: Prior, noise: float
) -> Posterior:
    """The merged heads that measurements with independent Gaussian noise leave probable.

    Raises:
        UserError: for deep experts, which have no merged head.
    """
    known = _statistics(dictionary, measurement, measured)
    gram, cross = _of_heads(dictionary, known)
    scale, precision = known.count / noise**2, prior.precision()
    means = precision @ prior.mean.double() + scale * cross
    precision += scale * gram
    factor = torch.linalg.cholesky(precision)
    return Posterior(torch.cholesky_solve(means.t(), factor).t(), precision, known)


@torch.no_grad()
@full_precision()
def heads_operator(
    dictionary: Dictionary, measurement: Measurement, measured: Float[Tensor, "T M d"]
) -> tuple[Float[Tensor, "r r"], Float[Tensor, "T r"], Float[Tensor, "T"]]:
    """A^T A, A^T y and |y|^2 for the matrix A from merged heads to measurements, in float64.

    Raises:
        UserError: for deep experts, which have no merged head.
    """
    known = _statistics(dictionary, measurement, measured)
    gram, cross = _of_heads(dictionary, known)
    return known.count * gram, known.count * cross, measured.double().square().sum((1, 2))


@torch.no_grad()
@full_precision()
def solve_map(
    dictionary: Dictionary,
    measurement: Measurement,
    measured: Float[Tensor, "T M d"],
    prior: Prior,
    *,
    noise: float,
    k: int,
    blocks: int | None = 8,
    ridge: float = 1e-9,
) -> Solution:
    """The code of k coefficients whose signal is most probable.

    Up to a constant, minus twice the log-posterior of a merged head u is (u - u*)^T Lambda (u - u*), with mean u* and
    precision Lambda. So the code is found by matching pursuit of u* among the experts' rows, in that inner product.
    `noise` is the standard deviation of the measurements' noise; the solution's residual is that of the measurements.
    """
    known = posterior(dictionary, measurement, measured, prior, noise)
    problem = _problem_of_heads(dictionary, known.means, known.precision)
    found = solve_omp(problem, k, blocks, ridge)
    error = _residual(dictionary, known.statistics, found.code)
    return Solution(found.code, error, Log([{"support": float(found.code.values.shape[1]), "residual": error.mean()}]))


def _statistics(dictionary: Dictionary, measurement: Measurement, measured: Float[Tensor, "T M d"]) -> Statistics:
    if not isinstance(dictionary.experts, LinearHeads):
        raise UserError(
            "solver map",
            found="deep experts (dictionary.private_layers of 2 or more)",
            expected="linear heads, whose sum is a head again",
            hint="choose another solver",
        )
    return gather_statistics(dictionary.trunk, measurement, measured)


def _of_heads(dictionary: Dictionary, known: Statistics) -> tuple[Float[Tensor, "r r"], Float[Tensor, "T r"]]:
    """Inner products of what merged heads are measured as, and of these with the signals: means over measurements."""
    features, signals = _with_constant(known)
    channels, width = dictionary.channels, dictionary.trunk.out_dim
    gram = features.new_zeros(channels * (width + 1), channels * (width + 1))
    cross = features.new_zeros(len(signals), len(gram))
    for channel in range(channels):
        own = _own(channel, channels, width, features.device)
        gram[own[:, None], own] = features
        cross[:, own] = signals[:, :, channel]
    return gram, cross


def _own(channel: int, channels: int, width: int, device: torch.device) -> Int[Tensor, "h1"]:
    """Where a merged head has the numbers of a channel: its weights, and its offset."""
    weights = torch.arange(channel * width, (channel + 1) * width, device=device)
    return torch.cat([weights, weights.new_tensor([channels * width + channel])])


def _with_constant(known: Statistics) -> tuple[Float[Tensor, "h1 h1"], Float[Tensor, "T h1 d"]]:
    """Inner products of (phi, 1) with themselves and with the signals, nothing eliminated."""
    means, constant = known.means, known.constant
    side = constant * means[:, None]
    features = torch.cat(
        [torch.cat([known.gram + side * means, side], 1), torch.cat([side.t(), constant[None, None]], 1)]
    )
    along = constant * known.target_means[:, None]
    return features, torch.cat([known.cross + means[:, None] * along, along], 1)


def _problem_of_heads(dictionary: Dictionary, means: Float[Tensor, "T r"], precision: Float[Tensor, "r r"]) -> Problem:
    """The posterior as a `Problem`: rows of experts as atoms, in the coordinates in which Lambda is the identity."""
    assert isinstance(dictionary.experts, LinearHeads)
    channels = dictionary.channels
    heads = len(precision) - channels
    # beta moves the offsets freely: it is eliminated, and what it takes with it goes into the means.
    free = torch.cholesky_solve(precision[heads:, :heads], torch.linalg.cholesky(precision[heads:, heads:]))
    metric = precision[:heads, :heads] - precision[:heads, heads:] @ free
    factor = torch.linalg.cholesky(metric)
    rows, dtype = dictionary.experts.rows.double(), dictionary.experts.rows.dtype
    scale = metric.diagonal().mean().sqrt()  # keeps float32 in range; a common factor changes no code

    def moved(heads_and_offsets: Tensor) -> Tensor:
        return heads_and_offsets[:, heads:] + heads_and_offsets[:, :heads] @ free.t()

    return Problem(
        (rows[:, :heads] @ factor / scale).to(dtype),
        (means[:, :heads] @ factor / scale).to(dtype),
        moved(rows).to(dtype),
        moved(means).to(dtype),
        means.new_zeros(len(means), dtype=dtype),
    )


def _residual(dictionary: Dictionary, known: Statistics, code: Code) -> Float[Tensor, "T"]:
    """Mean squared error over measurements and channels, from the statistics alone."""
    heads = dictionary.experts
    assert isinstance(heads, LinearHeads)
    merged, channels = heads.merge(code).double(), heads.channels
    weight = merged[:, : channels * heads.width].unflatten(1, (channels, heads.width))
    centred = torch.einsum("tdh,hj,tdj->t", weight, known.gram, weight)
    centred = centred - 2 * torch.einsum("tdh,thd->t", weight, known.cross) + known.energy
    offset = merged[:, channels * heads.width :] + code.bias + weight @ known.means - known.target_means
    error = centred.clamp_min(0) + known.constant * offset.square().sum(1)
    return (error / channels).to(code.values.dtype)


@torch.no_grad()
@full_precision()
def code_of_head(
    dictionary: Dictionary,
    head: Float[Tensor, "r"],
    precision: Float[Tensor, "r r"],
    k: int,
    blocks: int | None = 8,
    ridge: float = 1e-9,
) -> Code:
    """The code of k coefficients closest to one merged head, in the inner product of a posterior's precision."""
    return solve_omp(_problem_of_heads(dictionary, head[None], precision), k, blocks, ridge).code
