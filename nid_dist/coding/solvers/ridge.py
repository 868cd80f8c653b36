"""Ridge regression on a given support: the best values where a gate has chosen the experts.

Nothing here has to wait for a GPU: a singular system is marked by values that are not numbers, and those who may wait
look for them in the end (`refuse_singular`).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import Log, Solution, best_bias, residual
from nid_dist.errors import UserError
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_GATHER_FLOATS = 2**22  # floats gathered at a time: what follows reads them again and again
_AGAIN_FLOATS = 2**23  # of atoms of the signals that are solved again in float64 where nobody may ask how many they are
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
    refuse_singular(values, problem.targets)
    code = Code(values, best_bias(problem, indices, values), indices)
    error = residual(problem, code)
    return Solution(code, error, Log([{"residual": error.mean()}]))


def ridge_values(
    problem: Problem,
    indices: Int[Tensor, "T k"],
    weight: float,
    gram: Float[Tensor, "n n"] | None = None,
    cross: Float[Tensor, "T n"] | None = None,
    present: Bool[Tensor, "T k"] | None = None,
    *,
    wait: bool = True,
) -> Float[Tensor, "T k"]:
    """The coefficients of `solve_ridge`, not numbers for a signal whose system is singular.

    `gram` and `cross` are inner products of atoms, and of signals and atoms, where the caller has them; `present` says
    which coefficients may differ from zero, and `wait` is that of `solve_again`.
    """
    added = penalty(problem.energy, weight)
    step = max(1, floats_at_once(indices.device, _GATHER_FLOATS) // max(1, indices.shape[1] * problem.atoms.shape[1]))
    out, rough = [problem.atoms.new_zeros(0, indices.shape[1])], [indices.new_zeros(0, dtype=torch.bool)]
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
        values, failed = _cholesky_solve(system.double(), right.double(), added, ROUNDING[system.dtype])
        out.append(values.to(problem.atoms.dtype))
        rough.append(failed)

    def rows_of(again: Int[Tensor, "c"]) -> Float[Tensor, "c k D"]:
        return problem.atoms[indices[again]]

    return solve_again(torch.cat(out), torch.cat(rough), rows_of, problem.targets, added, present, wait=wait)


def solve_again(
    values: Float[Tensor, "T k"],
    failed: Bool[Tensor, "T"],
    rows_of: Callable[[Int[Tensor, "c"]], Float[Tensor, "c k D"]],
    targets: Float[Tensor, "T D"],
    added: Float[Tensor, "*T"],
    present: Bool[Tensor, "T k"] | None = None,
    *,
    wait: bool = True,
) -> Float[Tensor, "T k"]:
    """Values with those of some signals computed anew in float64; where that fails, too, they are not numbers.

    The rounding of inner products in float32 can exceed the penalty; that of float64 cannot. Nobody knows without
    waiting for a GPU how many signals failed. With `wait` it is asked once; else so many are solved again as a bound on
    memory allows, all of small batches, and the values of others that failed stay what they are.

    Args:
        rows_of: the atoms in the supports of some of the signals.
        added: to the diagonals.
    """
    floats = max(1, values.shape[1] * targets.shape[1])
    if wait or values.device.type == "cpu":
        again = failed.nonzero()[:, 0]
    else:
        again = failed.float().topk(min(len(values), max(1, _AGAIN_FLOATS // floats))).indices
    for part in () if not len(again) else again.split(max(1, floats_at_once(values.device, _GATHER_FLOATS) // floats)):
        rows = rows_of(part).double()
        system, right = rows @ rows.transpose(1, 2), torch.einsum("tkp,tp->tk", rows, targets[part].double())
        if present is not None:
            system, right = _only(present[part], system, right)
        own = added if added.dim() == 0 else added[part, None]
        found, singular = _cholesky_solve(system, right, own, ROUNDING[torch.float64])
        found = found.masked_fill(singular[:, None], torch.nan).to(values.dtype)
        values[part] = torch.where(failed[part, None], found, values[part])
    return values


def penalty(energy: Float[Tensor, "*T"], weight: float) -> Float[Tensor, "*T"]:
    """What a relative ridge adds to the diagonals of systems, in float64, by the mean squared norm of atoms."""
    energy = energy.double()
    # Where all atoms are flat on the measurements, every code fits alike: the penalty alone decides for zero.
    return weight * torch.where(energy > 0, energy, torch.ones_like(energy))


def refuse_singular(values: Float[Tensor, "T k"], targets: Float[Tensor, "T *rest"]) -> None:
    """Look, once, whether a signal has no values: the host waits for the device.

    Raises:
        SingularSystem: for the first of them.
    """
    signal = first_singular(values, targets)
    if signal is not None:
        raise SingularSystem(signal)


def first_singular(values: Float[Tensor, "T k"], targets: Float[Tensor, "T *rest"]) -> int | None:
    """The first signal of numbers without values, if there is one: the host waits for the device."""
    if not values.numel():
        return None
    failed = values.isnan().any(1) & targets.flatten(1).sum(1).isfinite()
    first = int(torch.where(failed.any(), failed.int().argmax(), -1))
    return None if first < 0 else first


def _only(
    present: Bool[Tensor, "T k"], system: Float[Tensor, "T k k"], right: Float[Tensor, "T k"]
) -> tuple[Float[Tensor, "T k k"], Float[Tensor, "T k"]]:
    """Systems whose other coefficients are zero, as well conditioned as without them."""
    apart = torch.diag_embed((~present) * system.diagonal(dim1=1, dim2=2).amax(1, keepdim=True).clamp_min(1e-30))
    return torch.where(present[:, :, None] & present[:, None, :], system, apart), right * present


def _cholesky_solve(
    system: Float[Tensor, "T k k"],
    right: Float[Tensor, "T k"],
    added: Float[Tensor, ""] | Float[Tensor, "T 1"],
    rounding: float,
) -> tuple[Float[Tensor, "T k"], Bool[Tensor, "T"]]:
    """The solutions, and where there is none."""
    limit = rounding * system.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(system.dtype).tiny)
    system.diagonal(dim1=1, dim2=2).add_(added)
    factor, failed = torch.linalg.cholesky_ex(system)
    # Dependent atoms leave a pivot of rounding, on either side of zero.
    pivots = factor.diagonal(dim1=1, dim2=2).square().amin(1)
    return torch.cholesky_solve(right[..., None], factor)[..., 0], (failed > 0) | ~(pivots > limit)
