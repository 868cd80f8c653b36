"""Ridge regression on a given support: the best values where a gate has chosen the experts."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import Solution, best_bias, residual
from nid_dist.errors import UserError
from nid_dist.precision import full_precision

_GATHER_FLOATS = 2**22  # floats gathered at a time: what follows reads them again and again
ROUNDING = {torch.float32: 2e-6, torch.float64: 1e-13}
"""Pivots below this share of the largest inner product are no information."""


class SingularSystem(UserError):
    """Atoms of a support depend on each other, and there is no ridge to choose among codes."""

    def __init__(self, signal: int) -> None:
        self.signal = signal
        super().__init__(
            f"ridge, signal {signal}",
            found="a singular system (repeated or dependent atoms in the support)",
            expected="independent atoms",
            hint="raise coding.ridge, or the method's ridge, to 1e-5 for example",
        )


@torch.no_grad()
@full_precision()
def solve_ridge(problem: Problem, indices: Int[Tensor, "T k"], weight: float = 1e-5) -> Solution:
    """Minimise |A_S^T alpha - y|^2 + weight * (mean squared norm of all atoms) * |alpha|^2 over alpha, and beta.

    The support S of each signal has no repeats; a weight of 0 demands independent atoms.

    Raises:
        SingularSystem: when a signal's system is.
    """
    cross = None if problem.gram is None else problem.targets @ problem.atoms.t()
    values = ridge_values(problem, indices, weight, problem.gram, cross)
    code = Code(values, best_bias(problem, indices, values), indices)
    error = residual(problem, code)
    return Solution(code, error, [{"residual": error.mean().item()}])


def ridge_values(
    problem: Problem,
    indices: Int[Tensor, "T k"],
    weight: float,
    gram: Float[Tensor, "n n"] | None = None,
    cross: Float[Tensor, "T n"] | None = None,
    present: Bool[Tensor, "T k"] | None = None,
) -> Float[Tensor, "T k"]:
    """The coefficients of `solve_ridge`.

    `gram` and `cross` are inner products of atoms, and of signals and atoms, where the caller has them; `present` says
    which coefficients may differ from zero.

    Raises:
        SingularSystem: when a signal's system is.
    """
    energy = problem.energy.double()
    # Where all atoms are flat on the measurements, every code fits alike: the penalty alone decides for zero.
    penalty = weight * torch.where(energy > 0, energy, torch.ones_like(energy))
    step = max(1, _GATHER_FLOATS // max(1, indices.shape[1] * problem.atoms.shape[1]))
    out = [problem.atoms.new_zeros(0, indices.shape[1])]
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
        if present is not None:
            system, right = _only(present[part], system, right)
        values, failed = _cholesky_solve(system.double(), right.double(), penalty, ROUNDING[system.dtype])
        if failed.any():
            # The rounding of inner products in float32 can exceed the penalty; that of float64 cannot.
            again = failed.nonzero()[:, 0]
            rows = problem.atoms[support[again]].double()
            right = torch.einsum("tkp,tp->tk", rows, problem.targets[part][again].double())
            system = rows @ rows.transpose(1, 2)
            if present is not None:
                system, right = _only(present[part][again], system, right)
            values[again], singular = _cholesky_solve(system, right, penalty, ROUNDING[torch.float64])
            if singular.any():
                raise SingularSystem(first + int(again[singular][0]))
        out.append(values.to(problem.atoms.dtype))
    return torch.cat(out)


def _only(
    present: Bool[Tensor, "T k"], system: Float[Tensor, "T k k"], right: Float[Tensor, "T k"]
) -> tuple[Float[Tensor, "T k k"], Float[Tensor, "T k"]]:
    """Systems whose other coefficients are zero, as well conditioned as without them."""
    apart = torch.diag_embed((~present) * system.diagonal(dim1=1, dim2=2).amax(1, keepdim=True).clamp_min(1e-30))
    return torch.where(present[:, :, None] & present[:, None, :], system, apart), right * present


def _cholesky_solve(
    system: Float[Tensor, "T k k"], right: Float[Tensor, "T k"], penalty: Float[Tensor, ""], rounding: float
) -> tuple[Float[Tensor, "T k"], Bool[Tensor, "T"]]:
    """The solutions, and where there is none."""
    limit = rounding * system.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(system.dtype).tiny)
    system.diagonal(dim1=1, dim2=2).add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(system)
    # Dependent atoms leave a pivot of rounding, on either side of zero.
    pivots = factor.diagonal(dim1=1, dim2=2).square().amin(1)
    return torch.cholesky_solve(right[..., None], factor)[..., 0], (failed > 0) | (pivots <= limit)
