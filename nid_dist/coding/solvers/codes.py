"""Codes of what was measured: signals together where they share coordinates, one by one where each has its own."""

import torch
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.problem import Problem, problem_of, reduce_problem
from nid_dist.coding.solvers.ridge import SingularSystem
from nid_dist.coding.solvers.sharded import owners_should_score, raise_together, solve_omp_sharded
from nid_dist.coding.solvers.solution import Solution
from nid_dist.coding.solvers.statistics import gather_statistics
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Sampling
from nid_dist.precision import full_precision
from nid_dist.samples import Samples

_JITTER = 1e-9


@torch.no_grad()
@full_precision()
def solve_codes(
    dictionary: Dictionary, samples: Samples, k: int, blocks: int | None = None, ridge: float = 1e-5
) -> Solution:
    """`solve_omp` for this rank's samples, of which there may be none, whether the experts are sharded or not.

    To be called on all ranks that share the experts; coordinates that signals share are the same on all of them.
    Signals with coordinates or weights of their own have inner products of their own, and no message would serve many:
    all experts are gathered once, n * d * (h + 1) numbers, and every rank solves for its own.

    Raises:
        SingularSystem: on all ranks, when a signal's system is.
    """
    together = samples.shared and not samples.weighted
    if together and owners_should_score(dictionary, Sampling(samples.coords), samples.values, k, blocks):
        return solve_omp_sharded(dictionary, Sampling(samples.coords), samples.values, k, blocks, ridge)
    unsharded, solution, failed = dictionary.unsharded(), None, None
    try:
        if together:
            problem = reduce_problem(unsharded, Sampling(samples.coords), samples.values)
            solution = solve_omp(problem, k, blocks, ridge)
        else:
            solution = _one_by_one(unsharded, samples, k, blocks, ridge)
    except SingularSystem as error:
        failed = error
    raise_together(dictionary.exchange, failed, samples.device)
    assert solution is not None
    return solution


def _one_by_one(dictionary: Dictionary, samples: Samples, k: int, blocks: int | None, ridge: float) -> Solution:
    solutions: list[Solution] = []
    for signal in range(len(samples)):
        one = samples.rows(slice(signal, signal + 1))
        try:
            solutions.append(solve_omp(_reduce(dictionary, one), k, blocks, ridge))
        except SingularSystem:
            raise SingularSystem(signal) from None
    code = Code.concatenate([solution.code for solution in solutions])
    return Solution(code, torch.cat([solution.residual for solution in solutions]))


def _reduce(dictionary: Dictionary, one: Samples) -> Problem:
    """`reduce_problem` of one signal, by a Cholesky factor instead of eigenvectors, which take ten times as long.

    Directions that the points do not determine are given a little weight, rather than left out: next to nothing
    beside any ridge.
    """
    heads, measurement = dictionary.experts, Sampling(one.coords if one.shared else one.coords[0])
    weights: Tensor | None = one.weights[0] if one.weighted else None
    if not isinstance(heads, LinearHeads) or measurement.size <= heads.width:
        return reduce_problem(dictionary, measurement, one.values, weights=weights)
    known = gather_statistics(dictionary.trunk, measurement, one.values, weights)
    eye = torch.eye(heads.width, dtype=torch.float64, device=one.device)
    jitter = _JITTER * known.gram.diagonal().mean().clamp_min(1e-300)
    factor = torch.linalg.cholesky(known.gram + jitter * eye)
    reduced = torch.linalg.solve_triangular(factor, known.cross[0], upper=False).t()
    return problem_of(heads, known, factor, reduced[None])
