"""L1-regularised codes by accelerated proximal gradients, then the k largest coefficients refitted."""

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.omp import inverse_norms
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.ridge import refuse_singular, ridge_values
from nid_dist.coding.solvers.solution import Log, Solution, best_bias, residual
from nid_dist.memory import floats_at_once
from nid_dist.precision import full_precision

_SIGNALS = 2**25  # floats of dense codes at a time
_ASK = 8  # iterations, after which a GPU is asked how many more are needed


@torch.no_grad()
@full_precision()
def solve_fista(
    problem: Problem,
    k: int,
    *,
    penalty: float = 0.01,
    iterations: int = 200,
    tolerance: float = 1e-4,
    stages: int = 4,
    ridge: float = 1e-5,
    debias: bool = True,
) -> Solution:
    """Minimise |A^T alpha - y|^2 / 2 + lambda sum_j |a_j| |alpha_j|, and keep the k largest |a_j alpha_j|.

    FISTA (Beck and Teboulle 2009) with the adaptive restart of O'Donoghue and Candes (2015), from large lambda to small
    in stages, each started from the one before. lambda is relative to the least that makes a signal's code zero. A
    signal's stage ends when no coefficient moves by more than `tolerance` of its largest; `debias` refits those kept
    without the penalty, which shrinks them. The log has, for each stage, the iterations so far, relative lambda
    and the mean objective. A GPU is waited for every 8 iterations and twice in the end.

    Raises:
        SingularSystem: when a refit's system is.
    """
    step = max(1, floats_at_once(problem.atoms.device, _SIGNALS) // max(1, len(problem.atoms)))
    parts: list[Code] = []
    log: list[dict[str, float | Tensor]] = []
    norms = problem.atoms.norm(dim=1)
    unit = problem.atoms * inverse_norms(norms, norms.max())[:, None]
    gram = unit @ unit.t() if len(unit) <= 4 * unit.shape[1] else None
    largest = _largest_eigenvalue(unit)
    for first in range(0, max(1, len(problem.targets)), step):
        part = problem.signals(slice(first, first + step))
        dense, own_log = _descend(unit, part.targets, gram, largest, penalty, iterations, tolerance, stages)
        log = log or own_log
        chosen = dense.abs().topk(min(k, len(unit)), dim=1).indices
        values = dense.gather(1, chosen) * inverse_norms(norms, norms.max())[chosen]
        if debias:
            values = ridge_values(part, chosen, ridge, present=values != 0)
        parts.append(Code(values, best_bias(part, chosen, values), chosen))
    code = Code.concatenate(parts)
    if debias:
        refuse_singular(code.values, problem.targets)
    return Solution(code, residual(problem, code), Log(log))


def _descend(
    unit: Float[Tensor, "n D"],
    targets: Float[Tensor, "T D"],
    gram: Float[Tensor, "n n"] | None,
    largest: Float[Tensor, ""],
    penalty: float,
    iterations: int,
    tolerance: float,
    stages: int,
) -> tuple[Float[Tensor, "T n"], list[dict[str, float | Tensor]]]:
    cross = targets @ unit.t()
    top = cross.abs().amax(1, keepdim=True)
    codes, spent = torch.zeros_like(cross), top.new_zeros(())
    ask, known = 1 if cross.device.type == "cpu" else _ASK, 0  # of the iterations, when last asked
    log: list[dict[str, float | Tensor]] = []
    for stage in range(stages):
        share, allowed = penalty ** ((stage + 1) / stages), iterations * (stage + 1) // stages
        threshold, ahead, momentum = share * top, codes.clone(), torch.ones_like(top)
        moving, left = (spent < allowed).expand_as(top), allowed - known if len(codes) else 0
        while left > 0:
            for _ in range(min(ask, left)):
                product = ahead @ gram if gram is not None else (ahead @ unit) @ unit.t()
                moved = ahead - product.sub_(cross).div_(largest)
                limit = threshold / largest
                shrunk = moved - torch.maximum(torch.minimum(moved, limit), -limit)
                change = shrunk - codes
                # Where the momentum has overshot, it starts anew.
                restart = ahead.sub_(shrunk).mul_(change).sum(1, keepdim=True) > 0
                following = torch.where(restart, torch.ones_like(momentum), (1 + (1 + 4 * momentum**2).sqrt()) / 2)
                factor = torch.where(restart, torch.zeros_like(momentum), (momentum - 1) / following)
                # A signal that has settled stays where it is, whatever the others do.
                codes = torch.addcmul(codes, change, moving.to(codes.dtype))
                ahead, momentum = torch.addcmul(shrunk, change, factor), following
                settled = change.abs().amax(1, keepdim=True) <= tolerance * codes.abs().amax(1, keepdim=True)
                # Iterations in which nothing moves any more do not count.
                spent = spent + moving.any()
                moving = moving & ~settled & (spent < allowed)
            left -= min(ask, left)
            if left > 0:
                known, more = (int(x) for x in torch.stack([spent, moving.any().to(spent.dtype)]).tolist())
                left = allowed - known if more else 0
        objective = 0.5 * (codes @ unit - targets).square().sum(1) + (threshold * codes.abs()).sum(1)
        log.append({"iteration": spent, "penalty": share, "objective": objective.mean()})
    return codes, log


def _largest_eigenvalue(unit: Float[Tensor, "n D"]) -> Float[Tensor, ""]:
    """Of the inner products, and a little more: its inverse is a step that converges (power iteration)."""
    vector = torch.ones(len(unit), dtype=unit.dtype, device=unit.device) + torch.arange(
        len(unit), dtype=unit.dtype, device=unit.device
    ) / max(1, len(unit))
    value = vector.new_zeros(())
    for _ in range(50):
        vector = (vector / vector.norm().clamp_min(1e-30)) @ unit @ unit.t()
        value = vector.norm()
    return 1.05 * value.clamp_min(1e-30)
