"""Codes of what was measured: in coordinates that signals share, or in each one's own."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.own import PASS, OwnProblem, joined, reduce_own, solve_own
from nid_dist.coding.solvers.problem import Problem, reduce_problem
from nid_dist.coding.solvers.sharded import owners_should_score, refuse_together, solve_omp_sharded
from nid_dist.coding.solvers.solution import Solution
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Sampling
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision
from nid_dist.samples import Samples

_KEPT = 2**26  # floats that are kept of signals that are solved together


@torch.no_grad()
@full_precision()
def solve_codes(
    dictionary: Dictionary,
    samples: Samples,
    k: int,
    blocks: int | None = None,
    ridge: float = 1e-5,
    *,
    check: bool = True,
) -> Solution:
    """`solve_omp` for this rank's samples, of which there may be none, whether the experts are sharded or not.

    To be called on all ranks that share the experts; coordinates that signals share are the same on all of them.
    Signals with coordinates or weights of their own have inner products of their own, and no message would serve many:
    all experts are gathered once, n * d * (h + 1) numbers, and every rank solves for its own.

    Without `check`, and with all experts here, a GPU is not waited for, and a signal whose system is singular has
    values that are not numbers.

    Raises:
        SingularSystem: on all ranks, when a signal's system is.
    """
    together = samples.shared and not samples.weighted
    if together and owners_should_score(dictionary, Sampling(samples.coords), samples.values, k, blocks):
        return solve_omp_sharded(dictionary, Sampling(samples.coords), samples.values, k, blocks, ridge, check=check)
    unsharded = dictionary.unsharded()
    if together:
        problem = reduce_problem(unsharded, Sampling(samples.coords), samples.values, wait=False)
        solution = solve_omp(problem, k, blocks, ridge, check=False)
    else:
        solution = _each_its_own(unsharded, samples, k, blocks, ridge)
    if check:
        refuse_together(dictionary.exchange, solution.code.values, samples.values)
    return solution


def _each_its_own(dictionary: Dictionary, samples: Samples, k: int, blocks: int | None, ridge: float) -> Solution:
    heads, solutions = dictionary.experts, []
    if isinstance(heads, LinearHeads):
        support = min(k, heads.num_experts)
        each = heads.width**2 + support * (2 * support + heads.channels * heads.width) + heads.num_experts
        for part in _parts(samples, floats_at_once(samples.device, _KEPT) // each):
            few = _parts(part, floats_at_once(samples.device, PASS) // (heads.width * samples.values.shape[1]))
            solutions.append(
                solve_own(joined([_reduce_own(dictionary, heads, some) for some in few]), k, blocks, ridge)
            )
    else:
        for one in _parts(samples, 1):
            solutions.append(solve_omp(_reduce(dictionary, one), k, blocks, ridge, check=False))
    code = Code.concatenate([solution.code for solution in solutions])
    return Solution(code, torch.cat([solution.residual for solution in solutions]))


def _parts(samples: Samples, signals: int) -> Iterator[Samples]:
    """So many signals at a time, or none once."""
    for first in range(0, max(1, len(samples)), max(1, signals)):
        yield samples.rows(slice(first, first + max(1, signals)))


def _reduce_own(dictionary: Dictionary, heads: LinearHeads, samples: Samples) -> OwnProblem:
    coords = samples.coords[None] if samples.shared else samples.coords

    def passes(points: int) -> Iterator[tuple[slice, Float[Tensor, "B P h"]]]:
        for first in range(0, coords.shape[1], points):
            part = slice(first, first + points)
            yield part, dictionary.trunk(coords[:, part].flatten(0, 1)).unflatten(0, (len(coords), -1))

    ones = samples.values.new_ones(coords.shape[1], dtype=torch.float64)
    return reduce_own(heads, passes, samples.values, samples.weights, ones)


def _reduce(dictionary: Dictionary, one: Samples) -> Problem:
    measurement = Sampling(one.coords if one.shared else one.coords[0])
    weights: Tensor | None = one.weights[0] if one.weighted else None
    return reduce_problem(dictionary, measurement, one.values, weights=weights, wait=False)
