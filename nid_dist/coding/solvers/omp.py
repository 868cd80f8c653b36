"""Orthogonal matching pursuit in blocks: greedy supports, with all values refitted after each block."""

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.growing import GrowingRefits
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.ridge import ridge_values
from nid_dist.coding.solvers.solution import Solution, best_bias, residual
from nid_dist.precision import full_precision

_FLOATS = 2**26  # of the inverse factors of all signals, at most


@torch.no_grad()
@full_precision()
def solve_omp(
    problem: Problem, k: int, blocks: int | None = None, ridge: float = 1e-5, tolerance: float = 0.0
) -> Solution:
    """Choose atoms by their correlation with the residual, a block at a time, refitting after each (Pati et al. 1993).

    One atom per block (blocks = k) is the classical pursuit; fewer blocks are faster and a little worse. A signal whose
    mean squared error is no more than the tolerance gets no further coefficient: the support is smaller than k when all
    signals reach it before; where only some do, their further coefficients are zero.
    """
    experts, signals = len(problem.atoms), len(problem.targets)
    sizes = block_sizes(min(k, experts), blocks)
    norms = problem.atoms.norm(dim=1)
    inverse = inverse_norms(norms, norms.max())
    correlation = problem.targets @ problem.atoms.t()
    gram = problem.gram
    if gram is None and _gram_is_cheaper(problem, sizes):
        gram = problem.atoms @ problem.atoms.t()
    taken = torch.zeros(signals, experts, dtype=torch.bool, device=problem.atoms.device)
    indices = torch.zeros(signals, 0, dtype=torch.long, device=problem.atoms.device)
    present = torch.zeros(signals, 0, dtype=torch.bool, device=problem.atoms.device)
    reached = torch.zeros(signals, 1, dtype=torch.bool, device=problem.atoms.device)
    log: list[dict[str, float]] = []
    initial = correlation
    refits = None
    if gram is not None and tolerance <= 0 and signals * sum(sizes) ** 2 <= _FLOATS:
        refits = GrowingRefits(gram, initial, ridge * problem.energy, sum(sizes))
    for block, size in enumerate(sizes):
        score = (correlation.abs() * inverse).masked_fill_(taken, -1.0)
        chosen = score.argmax(1, keepdim=True) if size == 1 else score.topk(size, dim=1).indices
        taken.scatter_(1, chosen, True)
        indices = torch.cat([indices, chosen], 1)
        present = torch.cat([present, ~reached.expand_as(chosen)], 1)
        last = block == len(sizes) - 1
        values = None if refits is None else refits.add(indices)
        if values is None:
            refits = None  # rounding would decide
            values = ridge_values(problem, indices, ridge, gram, initial, present if tolerance > 0 else None)
        if last or tolerance > 0:
            code = Code(values, best_bias(problem, indices, values), indices)
            error = residual(problem, code)
            log.append({"support": float(indices.shape[1]), "residual": error.mean().item()})
            reached = (error <= tolerance)[:, None]
            if last or bool(reached.all()):
                break
        correlation = _correlation(problem, initial, Code(values, problem.target_means, indices), gram)
    return Solution(code, error, log)


def block_sizes(k: int, blocks: int | None) -> list[int]:
    """How many atoms each block chooses, k in all; the first blocks one more at most."""
    blocks = k if blocks is None else max(1, min(blocks, k))
    return [k // blocks + (block < k % blocks) for block in range(blocks)]


def inverse_norms(norms: Float[Tensor, "n"], largest: Float[Tensor, ""]) -> Float[Tensor, "n"]:
    """1 / norm; 0 for atoms that vanish on the measurements, which cannot help and would divide by zero."""
    return torch.where(norms > 1e-6 * largest, 1 / norms.clamp_min(1e-30), torch.zeros_like(norms))


def _correlation(
    problem: Problem, initial: Float[Tensor, "T n"], code: Code, gram: Float[Tensor, "n n"] | None
) -> Float[Tensor, "T n"]:
    if gram is not None:
        return initial - code.weighted_sum(gram)
    return (problem.targets - code.weighted_sum(problem.atoms)) @ problem.atoms.t()


def _gram_is_cheaper(problem: Problem, sizes: list[int]) -> bool:
    # Multiplications: all inner products once, against those of the supports in every block; and within 1 GiB.
    experts, dim = problem.atoms.shape
    supports = sum(support**2 for support in accumulate(sizes)) * len(problem.targets)
    return experts * experts <= supports and experts <= 16384 and dim > 0
