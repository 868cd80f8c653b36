"""The data loss L and the penalties P of the one equation."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.code import Code


def data_loss(
    estimate: Float[Tensor, "T C d"],
    target: Float[Tensor, "T C d"],
    kind: Literal["l2", "l1", "huber"],
    huber: float = 0.05,
) -> Float[Tensor, ""]:
    """Mean loss over signals, coordinates and channels.

    Args:
        estimate: f at the coordinates.
        target: the measured values.
        kind: squared, absolute, or Huber's loss.
        huber: where Huber's loss turns from square to linear, in the signal's units.

    Returns:
        The mean.
    """
    if kind == "l2":
        return F.mse_loss(estimate, target)
    if kind == "l1":
        return F.l1_loss(estimate, target)
    return F.huber_loss(estimate, target, delta=huber)


def importance(code: Code, experts: int, kind: Literal["absolute", "signed"] = "absolute") -> Float[Tensor, "n"]:
    """How much each expert is used by the batch.

    Args:
        code: the codes of the batch.
        experts: n.
        kind: sum of |alpha| (default), or the paper's signed sum, whose mean over experts can be near zero.

    Returns:
        One number per expert, differentiable.
    """
    values = code.values.abs() if kind == "absolute" else code.values
    if code.indices is None:
        return values.sum(0)
    return values.new_zeros(experts).index_add(0, code.indices.flatten(), values.flatten())


def squared_variation(usage: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """CV^2 = Var / mean^2 of the experts' usage, zero when all are used alike.

    Wang et al. 2022: P_CV = Var(a) / (sum_j a_j / n)^2 with a = sum_i alpha^(i).

    Args:
        usage: importance or load; reduce it over all ranks before.

    Returns:
        The squared coefficient of variation, at most 1e10, and 0 without any usage. It explodes when signed usage
        cancels: prefer `absolute` importance.
    """
    # The guard against a mean of zero is relative, as the scale of codes is free and many experts share few signals.
    guard = 1e-10 * usage.detach().square().mean() + 1e-18
    return usage.var(unbiased=False) / (usage.mean().square() + guard)


def sparsity(code: Code) -> Float[Tensor, ""]:
    """Mean |alpha| over signals and coefficients, the L1 penalty of the warm-up.

    Args:
        code: the codes of the batch.

    Returns:
        The mean.
    """
    return code.values.abs().mean()
