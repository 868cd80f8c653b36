"""Codes of what was measured: signals together where they share coordinates, one by one where each has its own."""

import torch
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.problem import Problem, reduce_problem
from nid_dist.coding.solvers.sharded import owners_should_score, refuse_together, solve_omp_sharded
from nid_dist.coding.solvers.solution import Solution
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Sampling
from nid_dist.precision import full_precision
from nid_dist.samples import Samples


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
        solution = _one_by_one(unsharded, samples, k, blocks, ridge)
    if check:
        refuse_together(dictionary.exchange, solution.code.values, samples.values)
    return solution


def _one_by_one(dictionary: Dictionary, samples: Samples, k: int, blocks: int | None, ridge: float) -> Solution:
    rows = (samples.rows(slice(signal, signal + 1)) for signal in range(len(samples)))
    solutions = [solve_omp(_reduce(dictionary, one), k, blocks, ridge, check=False) for one in rows]
    code = Code.concatenate([solution.code for solution in solutions])
    return Solution(code, torch.cat([solution.residual for solution in solutions]))


def _reduce(dictionary: Dictionary, one: Samples) -> Problem:
    measurement = Sampling(one.coords if one.shared else one.coords[0])
    weights: Tensor | None = one.weights[0] if one.weighted else None
    return reduce_problem(dictionary, measurement, one.values, weights=weights, wait=False)
