"""Linear heads and signals that are measured each in its own places, or with weights of its own: all solved together.

Signal t has inner products of features of its own, K_t = L_t L_t^T, so its atoms are the rows W_j L_t. They are never
made: W L_t r is (W_j) times one vector per signal, and only the rows of supports are multiplied by L_t.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.omp import block_sizes, inverse_norms
from nid_dist.coding.solvers.problem import cholesky_factor
from nid_dist.coding.solvers.pursuit import FetchedAtoms, pursue
from nid_dist.coding.solvers.ridge import penalty
from nid_dist.coding.solvers.solution import Solution
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.memory import floats_at_once

PASS = 2**20
"""Features of all signals at a time."""

_NORMS = 2**20  # floats of atoms whose norms are taken, at a time

Passes = Callable[[int], Iterator[tuple[slice, Float[Tensor, "B P h"]]]]
"""Features at so many of the M measurements at a time; B is T, or 1 where all signals share them."""


@dataclass(frozen=True)
class OwnProblem:
    """min over alpha, beta of |targets - sum_j alpha_j (W_j L)|^2 + c |beta + ...|^2 for each of T signals."""

    heads: LinearHeads
    factors: Float[Tensor, "T h q"]  # L
    targets: Float[Tensor, "T d q"]  # the centred signals
    means: Float[Tensor, "T h"]  # of the features
    target_means: Float[Tensor, "T d"]
    residual_floor: Float[Tensor, "T"]  # squared norm of the part of each signal that no code can represent


def joined(problems: Sequence[OwnProblem]) -> OwnProblem:
    """The signals of several problems, at least one, of the same heads."""
    names = [field.name for field in fields(OwnProblem) if field.name != "heads"]
    return OwnProblem(problems[0].heads, *(torch.cat([getattr(p, name) for p in problems]) for name in names))


def reduce_own(
    heads: LinearHeads,
    passes: Passes,
    measured: Float[Tensor, "T M d"],
    weights: Float[Tensor, "T M"],
    constant: Float[Tensor, "M"],
) -> OwnProblem:
    """What linear heads need to know of signals with coordinates or weights of their own; `constant` is R 1."""
    signals, size = weights.shape
    shares = weights.double() / weights.sum(1, keepdim=True, dtype=torch.float64).clamp_min(1e-300)
    along = shares * constant
    square = (along * constant).sum(1).clamp_min(1e-300)
    target_means = torch.einsum("tm,tmd->td", along, measured.double()) / square[:, None]
    centred = measured.double() - constant[:, None] * target_means[:, None]
    dtype = heads.rows.dtype
    if size <= heads.width:
        features, root = torch.cat([phi for _, phi in passes(size)], 1).double(), shares.sqrt()
        means = torch.einsum("tm,tmh->th", along, features.expand(signals, -1, -1)) / square[:, None]
        factors = ((features - constant[:, None] * means[:, None]) * root[..., None]).transpose(1, 2)
        targets = (centred * root[..., None]).transpose(1, 2)
        floor = target_means.new_zeros(signals)
    else:
        gram, cross, means = _inner_products(heads.width, passes, centred, shares, constant)
        factors = cholesky_factor(gram)
        targets = torch.linalg.solve_triangular(factors, cross, upper=False).transpose(1, 2)
        energy = (shares[..., None] * centred.square()).sum((1, 2))
        floor = (energy - targets.square().sum((1, 2))).clamp_min(0)
    return OwnProblem(heads, *(x.to(dtype) for x in (factors, targets, means, target_means, floor)))


def _inner_products(
    width: int,
    passes: Passes,
    centred: Float[Tensor, "T M d"],
    shares: Float[Tensor, "T M"],
    constant: Float[Tensor, "M"],
) -> tuple[Float[Tensor, "T h h"], Float[Tensor, "T h d"], Float[Tensor, "T h"]]:
    """Of the centred features with themselves and with the signals; and the features' means."""
    signals, root = len(shares), shares.sqrt()
    gram, shift = shares.new_zeros(signals, width, width), None
    sums = shares.new_zeros(signals, width, centred.shape[2] + 1)
    for part, phi in passes(max(1, floats_at_once(shares.device, PASS) // max(1, signals * width))):
        ones, share = constant[part, None], root[:, part, None]
        # About their first mean: a large mean would drown the variances in rounding.
        shift = phi.mean(1, keepdim=True).double() / ones.mean().clamp_min(1e-30) if shift is None else shift
        scaled = phi.double().addcmul_(ones, shift, value=-1) * share
        gram.baddbmm_(scaled.transpose(1, 2), scaled)
        signals_and_one = torch.cat([centred[:, part], ones.expand(signals, -1, -1)], 2) * share
        sums.baddbmm_(scaled.transpose(1, 2), signals_and_one)
    assert shift is not None
    square = (shares * constant.square()).sum(1, keepdim=True)
    means = sums[..., -1] / square.clamp_min(1e-300)
    gram -= square[..., None] * means[:, :, None] * means[:, None]
    # `sums` need no correction: the centred signals have no part along the constant.
    return gram, sums[..., :-1], means + shift[:, 0]


@torch.no_grad()
def solve_own(problem: OwnProblem, k: int, blocks: int | None, ridge: float) -> Solution:
    """`solve_omp` of all signals, which waits for nothing; a signal whose system is singular has no numbers."""
    heads = problem.heads
    sizes = block_sizes(min(k, heads.num_experts), blocks)
    atoms = _Atoms(problem, sum(sizes))
    added = penalty(atoms.energy, ridge)
    found = pursue(atoms, sizes, added)
    values = found.exact(atoms, added, wait=False)
    weight, offset = heads.weight[found.indices], heads.offset[found.indices]
    explained = torch.einsum("tk,tkdh,th->td", values, weight, problem.means)
    bias = problem.target_means - explained - torch.einsum("tk,tkd->td", values, offset)
    # The best bias leaves no mean.
    error = atoms.left(values).square().sum(1) + problem.residual_floor
    return Solution(Code(values, bias, found.indices), error / problem.target_means.shape[1])


class _Atoms(FetchedAtoms):
    """Rows W_j L of each signal's own."""

    def __init__(self, problem: OwnProblem, most: int) -> None:
        super().__init__(problem.targets.flatten(1), problem.heads.num_experts, most)
        self._problem = problem
        norms = self._norms()
        self._inverse = inverse_norms(norms, norms.amax(1, keepdim=True))
        self.energy = norms.square().mean(1)

    def fetch(self, chosen: Int[Tensor, "T s"]) -> Float[Tensor, "T s D"]:
        rows = self._problem.heads.weight[chosen]
        return (rows.flatten(1, 2) @ self._problem.factors).unflatten(1, rows.shape[1:3]).flatten(2)

    def scorer(self, rest: Float[Tensor, "T D"]) -> Callable[[slice], Float[Tensor, "T p"]]:
        heads, factors = self._problem.heads, self._problem.factors
        along = (rest.unflatten(1, (heads.channels, -1)) @ factors.transpose(1, 2)).flatten(1)
        rows = heads.rows[:, : along.shape[1]]
        return lambda part: (along @ rows[part].t()).mul_(self._inverse[:, part]).abs_()

    def _norms(self) -> Float[Tensor, "T n"]:
        heads, factors = self._problem.heads, self._problem.factors
        norms = factors.new_empty(len(factors), heads.num_experts)
        rows = floats_at_once(factors.device, _NORMS) // max(1, len(factors) * heads.channels * factors.shape[2])
        for first in range(0, heads.num_experts, max(1, rows)):
            part = slice(first, first + max(1, rows))
            weight = heads.weight[part].flatten(0, 1)
            parts = weight.expand(len(factors), -1, -1).bmm(factors)
            norms[:, part] = torch.linalg.vector_norm(parts.unflatten(1, (-1, heads.channels)), dim=(2, 3))
        return norms
