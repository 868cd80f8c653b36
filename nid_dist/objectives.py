"""The data loss L and the penalties P of the one equation."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code


def data_loss(
    estimate: Float[Tensor, "T C d"],
    target: Float[Tensor, "T C d"],
    kind: Literal["l2", "l1", "huber", "welsch"],
    delta: float = 0.05,
    weights: Float[Tensor, "T C"] | None = None,
) -> Float[Tensor, ""]:
    """Mean loss over signals, coordinates and channels.

    Args:
        kind: squared, absolute, Huber's loss, or Welsch's, which forgets outliers: s (1 - exp(-|r|^2 / (2 s^2))), |r|
            the root mean square over the channels, which are trusted together.
        delta: where Huber's loss turns from square to linear, and Welsch's down (s), in the signal's units.
        weights: of the measurements, 0 where one is missing; the mean is still over all. None: 1 everywhere.
    """
    if weights is not None:
        # What is missing is taken as met: every loss is zero there, and so is its gradient.
        target = torch.where(weights[..., None] > 0, target, estimate.detach())
    if kind == "l2":
        loss = (estimate - target).square()
    elif kind == "l1":
        loss = (estimate - target).abs()
    elif kind == "huber":
        loss = F.huber_loss(estimate, target, delta=delta, reduction="none")
    else:
        square = (estimate - target).square().mean(-1, keepdim=True)
        loss = delta * -torch.expm1(-square / (2 * delta**2))
    return loss.mean() if weights is None else (weights[..., None] * loss).mean()


def importance(code: Code, experts: int, kind: Literal["absolute", "signed"] = "absolute") -> Float[Tensor, "n"]:
    """How much each expert is used by the batch: the sum of |alpha|, or (`signed`) the paper's sum of alpha.

    The mean of the signed sum over experts can be near zero.
    """
    values = code.values.abs() if kind == "absolute" else code.values
    if code.indices is None:
        return values.sum(0)
    return values.new_zeros(experts).index_add(0, code.indices.flatten(), values.flatten())


def squared_variation(usage: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """CV^2 = Var / mean^2 of the experts' usage, zero when all are used alike: at most 1e10, and 0 without any usage.

    Wang et al. 2022: P_CV = Var(a) / (sum_j a_j / n)^2 with a = sum_i alpha^(i). Usage is importance or load, reduced
    over all ranks before. It explodes when signed usage cancels: prefer `absolute` importance.
    """
    # The guard against a mean of zero is relative, as the scale of codes is free and many experts share few signals.
    guard = 1e-10 * usage.detach().square().mean() + 1e-18
    return usage.var(unbiased=False) / (usage.mean().square() + guard)


def sparsity(code: Code) -> Float[Tensor, ""]:
    """Mean |alpha| over signals and coefficients, the L1 penalty of the warm-up."""
    return code.values.abs().mean()


def ordered_sparsity(
    code: Code, experts: int, order: float, scales: Float[Tensor, "n"] | None = None
) -> Float[Tensor, ""]:
    """Sum over components of w_i |alpha_i|, the mean over signals: the first experts are the cheap ones.

    Video decomposition of Wang et al. 2022 weighs |alpha_i| by 1 / exp(-beta i), which overflows for a few hundred
    experts. Here w_i = exp(beta i / (n - 1)), i = 0 ... n - 1, divided by their mean: whatever n is, the last one costs
    exp(beta) times as much as the first, and weights are 1 on average.

    Args:
        order: beta.
        scales: of the experts, so that it is the components' size that counts, not how code and expert share it; None:
            all alike.
    """
    weights = order_weights(experts, order, code.values)
    if scales is not None:
        weights = weights * scales
    own = weights if code.indices is None else weights[code.indices]
    return (own * code.values.abs()).sum(1).mean()


def order_weights(experts: int, order: float, like: Tensor) -> Float[Tensor, "n"]:
    """The weights of `ordered_sparsity`, of the type and on the device of another tensor."""
    place = torch.linspace(0, 1, experts, dtype=torch.float64, device=like.device)  # of one expert: 0
    # Relative to the largest: nothing overflows, however steep the order.
    weights = torch.exp(order * (place - 1))
    return (weights / weights.mean()).to(like)
