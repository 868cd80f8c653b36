"""What a solver returns: the codes, how well they fit, and how it went."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers.problem import Problem


@dataclass(frozen=True)
class Solution:
    """Codes with their residuals."""

    code: Code  # at most k non-zeros per signal
    residual: Float[Tensor, "T"]  # mean squared error of each signal over measurements and channels
    # one entry per iteration: what it did, and the mean residual after it
    log: list[dict[str, float]] = field(default_factory=list)
    # for all signals together, the reduction of the signals included, where they were counted
    seconds: float = field(default=0.0, kw_only=True)


def best_bias(problem: Problem, indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"]) -> Float[Tensor, "T d"]:
    """The bias that makes the residual's mean zero in every channel."""
    return problem.target_means - torch.einsum("tk,tkd->td", values, problem.atom_means[indices])


def residual(problem: Problem, code: Code) -> Float[Tensor, "T"]:
    """Mean squared error of each signal over measurements and channels, in squared units of the signal."""
    centred = (code.weighted_sum(problem.atoms) - problem.targets).square().sum(1)
    offset = (code.bias + code.weighted_sum(problem.atom_means) - problem.target_means).square().sum(1)
    return (centred + problem.constant * offset + problem.residual_floor) / problem.target_means.shape[1]
