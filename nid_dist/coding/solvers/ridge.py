"""Ridge regression on a given support: the best values where a gate has chosen the experts."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.code import Code
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import Solution, best_bias, residual
from nid_dist.errors import UserError

_GATHER_NUMBERS = 2**25  # numbers gathered at a time


def solve_ridge(problem: Problem, indices: Int[Tensor, "T k"], weight: float = 1e-5) -> Solution:
    """Minimise |A_S^T alpha - y|^2 + weight * (mean squared norm of all atoms) * |alpha|^2 over alpha, and beta.

    Args:
        problem: the reduced problem.
        indices: the support S of each signal, without repeats.
        weight: relative ridge; 0 demands independent atoms.

    Returns:
        The solution, in closed form.

    Raises:
        UserError: when a signal's system is singular.
    """
    values = ridge_values(problem, indices, weight)
    code = Code(values, best_bias(problem, indices, values), indices)
    error = residual(problem, code)
    return Solution(code, error, [{"residual": error.mean().item()}])


def ridge_values(
    problem: Problem,
    indices: Int[Tensor, "T k"],
    weight: float,
    gram: Float[Tensor, "n n"] | None = None,
    cross: Float[Tensor, "T n"] | None = None,
) -> Float[Tensor, "T k"]:
    """The coefficients of `solve_ridge`.

    Args:
        problem: the reduced problem.
        indices: the supports.
        weight: relative ridge.
        gram: inner products of all atoms, where the caller has them.
        cross: inner products of signals and atoms, where the caller has them.

    Returns:
        One row of coefficients per signal.

    Raises:
        UserError: when a signal's system is singular.
    """
    penalty = weight * problem.atoms.square().sum(1).mean().double()
    step = max(1, _GATHER_NUMBERS // (indices.shape[1] * problem.atoms.shape[1]))
    out = []
    for first in range(0, len(indices), step):
        part = slice(first, first + step)
        support = indices[part]
        if gram is not None and cross is not None:
            system = gram[support[:, :, None], support[:, None, :]]
            right = cross[part].gather(1, support)
        else:
            rows = problem.atoms[support]
            system = rows @ rows.transpose(1, 2)
            right = torch.einsum("tkp,tp->tk", rows, problem.targets[part])
        out.append(_cholesky_solve(system.double(), right.double(), penalty, first).to(problem.atoms.dtype))
    return torch.cat(out) if out else problem.atoms.new_zeros(indices.shape)


def _cholesky_solve(
    system: Float[Tensor, "T k k"], right: Float[Tensor, "T k"], penalty: Tensor, first: int
) -> Float[Tensor, "T k"]:
    system.diagonal(dim1=1, dim2=2).add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(system)
    if failed.any():
        signal = first + int(failed.nonzero()[0])
        raise UserError(
            f"ridge, signal {signal}",
            found="a singular system (repeated or dependent atoms in the support)",
            expected="independent atoms",
            mend="raise coding.ridge (--ridge), for example to 1e-5",
        )
    return torch.cholesky_solve(right[..., None], factor)[..., 0]
