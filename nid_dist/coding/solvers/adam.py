"""The paper's fit: a few Adam steps on the code (alpha and beta) from the gate's, the support fixed."""

import torch

from nid_dist.coding.code import Code
from nid_dist.coding.solvers.problem import Problem
from nid_dist.coding.solvers.solution import Solution, residual


def solve_adam(problem: Problem, start: Code, steps: int = 10, lr: float = 0.02) -> Solution:
    """Minimise the mean squared error by Adam on (alpha, beta), the dictionary frozen (Wang et al. 2022, sec. 3.3).

    The rate is relative: coefficients are measured in units of the root mean square of the signal's own start, so that
    one rate serves all scales of signals and atoms; each signal has its own moments.

    Args:
        problem: the reduced problem.
        start: sparse codes, the gate's.
        steps: gradient steps.
        lr: relative learning rate, decayed by a half cosine.

    Returns:
        The solution, on the start's support.
    """
    assert start.indices is not None
    rows, means = problem.atoms[start.indices], problem.atom_means[start.indices]
    values, bias = start.values.clone(), start.bias.clone()
    unit = values.square().mean(1, keepdim=True).sqrt().clamp_min(1e-8)
    first = [torch.zeros_like(values), torch.zeros_like(bias)]
    second = [torch.zeros_like(values), torch.zeros_like(bias)]
    log: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        error = torch.einsum("tk,tkp->tp", values, rows) - problem.targets
        offset = bias + torch.einsum("tk,tkd->td", values, means) - problem.target_means
        slope = torch.einsum("tkp,tp->tk", rows, error) + torch.einsum("tkd,td->tk", means, offset)
        squared = error.square().sum(1) + offset.square().sum(1) + problem.unreachable
        log.append({"step": step, "residual": squared.mean().item() / offset.shape[1]})
        rate = lr * (0.5 + 0.5 * torch.cos(torch.tensor(torch.pi * (step - 1) / steps))).item()
        for position, (variable, gradient, scale) in enumerate(((values, slope, unit), (bias, offset, 1.0))):
            first[position].mul_(0.9).add_(gradient, alpha=0.1)
            second[position].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            move = first[position] / (1 - 0.9**step) / ((second[position] / (1 - 0.999**step)).sqrt() + 1e-12)
            variable.sub_(rate * scale * move)
    code = Code(values, bias, start.indices)
    return Solution(code, residual(problem, code), log)
