"""The paper's fit: a few Adam steps on the code (alpha and beta) from the gate's, the support fixed."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import Log, Solution, residual
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_GATHER_FLOATS = 2**25  # floats gathered at a time


@torch.no_grad()
@full_precision()
def solve_adam(problem: Problem, start: Code, steps: int = 10, lr: float = 0.5) -> Solution:
    """Minimise the mean squared error by Adam on (alpha, beta), the dictionary frozen (Wang et al. 2022, sec. 3.3).

    Adam's first steps move every variable by the rate, whatever its gradient. So the rate is relative to what a
    signal's variables need: the root mean square of its Newton steps at the start, atoms taken as orthogonal. One rate
    then serves all scales of signals and atoms, and a good start is not made worse. The support stays the start's, the
    gate's; `lr` is decayed by a half cosine.
    """
    assert start.indices is not None
    support = start.indices.shape[1]
    step = max(1, floats_at_once(problem.atoms.device, _GATHER_FLOATS) // max(1, support * problem.atoms.shape[1]))
    parts = [
        _descend(problem.signals(part), start.rows(part), steps, lr)
        for part in (slice(first, first + step) for first in range(0, max(1, start.signals), step))
    ]
    code = Code.concatenate([part for part, _ in parts])
    error = residual(problem, code)
    trace = [*torch.cat([part for _, part in parts], 1).mean(1), error.mean()]
    return Solution(code, error, Log([{"step": float(i), "residual": r} for i, r in enumerate(trace) if i]))


def _descend(problem: Problem, start: Code, steps: int, lr: float) -> tuple[Code, Float[Tensor, "steps T"]]:
    """The code after all steps, and the mean squared errors before each."""
    indices = start.indices
    assert indices is not None
    rows, means = problem.atoms[indices], problem.atom_means[indices]
    values, bias = start.values.to(rows.dtype, copy=True), start.bias.to(rows.dtype, copy=True)
    slope_state, offset_state = _Moments(values), _Moments(bias)
    curvature = (rows.square().sum(2) + problem.constant * means.square().sum(2)).clamp_min(1e-30)
    units: tuple[Tensor, Tensor] | None = None
    errors = [problem.residual_floor.new_zeros(0, len(values))]
    for step in range(steps):
        error = torch.einsum("tk,tkp->tp", values, rows) - problem.targets
        offset = bias + torch.einsum("tk,tkd->td", values, means) - problem.target_means
        slope = torch.einsum("tkp,tp->tk", rows, error) + problem.constant * torch.einsum("tkd,td->tk", means, offset)
        squared = error.square().sum(1) + problem.constant * offset.square().sum(1) + problem.residual_floor
        errors.append(squared[None] / offset.shape[1])
        if units is None:
            units = _root_mean_square(slope / curvature), _root_mean_square(offset)
        rate = lr * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        values -= rate * units[0] * slope_state.direction(slope)
        bias -= rate * units[1] * offset_state.direction(offset)
    return Code(values, bias, indices), torch.cat(errors)


def _root_mean_square(steps: Float[Tensor, "T p"]) -> Float[Tensor, "T 1"]:
    return steps.square().mean(1, keepdim=True).sqrt()


class _Moments:
    """Adam's running averages of a gradient and of its square (Kingma and Ba 2015, algorithm 1)."""

    def __init__(self, like: Tensor) -> None:
        self.first, self.second, self.step = torch.zeros_like(like), torch.zeros_like(like), 0

    def direction(self, gradient: Tensor) -> Tensor:
        self.step += 1
        self.first.mul_(0.9).add_(gradient, alpha=0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        return self.first / (1 - 0.9**self.step) / ((self.second / (1 - 0.999**self.step)).sqrt() + 1e-30)
