"""Codes of signals that are measured at coordinates of their own, one signal after the other."""

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.code import Code
from nid_dist.coding.solvers.omp import solve_omp
from nid_dist.coding.solvers.problem import reduce_problem
from nid_dist.coding.solvers.ridge import SingularSystem
from nid_dist.coding.solvers.sharded import raise_together
from nid_dist.coding.solvers.solution import Solution
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Sampling


@torch.no_grad()
def solve_codes_apart(
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
    whole, failed = dictionary.whole(), None
    solutions: list[Solution] = []
    try:
        for signal, (where, values) in enumerate(zip(coords, measured, strict=True)):
            problem = reduce_problem(whole, Sampling(where), values[None])
            solutions.append(solve_omp(problem, k, blocks, ridge))
    except SingularSystem:
        failed = SingularSystem(signal)
    if dictionary.exchange.ranks > 1:
        raise_together(dictionary.exchange, failed, measured.device)
    elif failed is not None:
        raise failed
    code = Code.concatenate([solution.code for solution in solutions])
    return Solution(code, torch.cat([solution.residual for solution in solutions]))
