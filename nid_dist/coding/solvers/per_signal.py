"""Codes of signals that are measured at coordinates of their own, one signal after the other."""

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.problem import Problem, reduce_problem
from nid_dist.coding.solvers.ridge import SingularSystem
from nid_dist.coding.solvers.sharded import raise_together
from nid_dist.coding.solvers.solution import Solution
from nid_dist.coding.solvers.statistics import gather_statistics
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.measurements.sampling import Sampling

_JITTER = 1e-9


@torch.no_grad()
def solve_codes_per_signal(
    dictionary: Dictionary,
    coords: Float[Tensor, "T C m"],
    measured: Float[Tensor, "T C d"],
    k: int,
    blocks: int | None = None,
    ridge: float = 1e-5,
) -> Solution:
    """`solve_omp` for each signal at its own coordinates, whether the experts are sharded or not.

    To be called on all ranks that share the experts. Each signal has inner products of its own, so there is no message
    that would serve many: all experts are gathered once, n * d * (h + 1) numbers, and every rank solves for its own.

    Args:
        dictionary: frozen.
        coords: of each signal.
        measured: f there.
        k: size of the support.
        blocks: rounds of selection, 1 to k; None: k.
        ridge: relative ridge of the refits.

    Returns:
        The solution for this rank's signals.

    Raises:
        SingularSystem: on all ranks, when a signal's system is.
    """
    whole, failed = dictionary.unsharded(), None
    solutions: list[Solution] = []
    try:
        for where, values in zip(coords, measured, strict=True):
            solutions.append(solve_omp(_reduce(whole, Sampling(where), values[None]), k, blocks, ridge))
    except SingularSystem:
        failed = SingularSystem(len(solutions))
    if dictionary.exchange.ranks > 1:
        raise_together(dictionary.exchange, failed, measured.device)
    elif failed is not None:
        raise failed
    code = Code.concatenate([solution.code for solution in solutions])
    return Solution(code, torch.cat([solution.residual for solution in solutions]))


def _reduce(dictionary: Dictionary, measurement: Sampling, measured: Float[Tensor, "1 C d"]) -> Problem:
    """`reduce_problem`, with a Cholesky factor in the place of eigenvectors, which take ten times as long.

    Directions that the points do not determine are given a little weight, rather than left out: next to nothing
    beside any ridge.
    """
    heads = dictionary.experts
    if not isinstance(heads, LinearHeads) or measurement.size <= heads.width:
        return reduce_problem(dictionary, measurement, measured)
    known = gather_statistics(dictionary.trunk, measurement, measured)
    jitter = _JITTER * known.gram.diagonal().mean().clamp_min(1e-300)
    factor = torch.linalg.cholesky(
        known.gram + jitter * torch.eye(heads.width, dtype=torch.float64, device=measured.device)
    )
    reduced = torch.linalg.solve_triangular(factor, known.cross[0], upper=False).t()
    dtype = heads.rows.dtype
    atoms = torch.einsum("ndh,hj->ndj", heads.weight, factor.to(dtype))
    means = torch.einsum("ndh,h->nd", heads.weight, known.means.to(dtype)) + heads.offset
    residual_floor = (known.energy - reduced.square().sum()).clamp_min(0)
    return Problem(
        atoms.flatten(1),
        reduced.flatten()[None].to(dtype),
        means,
        known.target_means.to(dtype),
        residual_floor.to(dtype),
    )
