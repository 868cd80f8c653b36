"""Gradients of several ranks: their global norm, and clipping by it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from nid_dist.parallel.world import World


def complete(parameters: Iterable[Tensor]) -> None:
    """Give a gradient of zeros to each parameter that requires one and took no part in this rank's loss.

    Ranks must send the same messages, and a rank without signals may have a loss that leaves some parameters out.
    """
    for parameter in parameters:
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def global_norm(
    parts: Iterable[tuple[Sequence[Tensor], int]], loss: Float[Tensor, ""], world: World
) -> Float64[Tensor, ""]:
    """The norm over all parameters of all ranks, on the device, equal on all to the last bit.

    Each part is gradients of this rank, with the number of ranks that hold the same. The norm is not finite when any
    gradient is not, or any rank's loss.
    """
    square = torch.zeros((), dtype=torch.float64, device=world.device)
    for gradients, holders in parts:
        square += nn.utils.get_total_norm(gradients).to(square).square() / holders
    return norm_with_loss(square, loss, world)


def norm_with_loss(
    square: Float64[Tensor, ""], loss: Float[Tensor, ""], world: World | None = None
) -> Float64[Tensor, ""]:
    """The root of a square, summed over the ranks of a world; not finite when any rank's loss is not."""
    loss = loss.detach().to(square)
    square = square + (loss - loss)  # nothing, or not a number
    return (square if world is None else world.all_reduce_sum(square)).sqrt()


def clip(gradients: Sequence[Tensor], norm: Float64[Tensor, ""], largest: float | None) -> None:
    """Scale gradients down in place, as PyTorch does, where their norm is above the largest; None: never."""
    if largest is None or not gradients:
        return
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    if factor.device.type == "cpu" and factor == 1:
        return  # a pass over all gradients saved, where to ask costs nothing
    torch._foreach_mul_(list(gradients), factor.to(gradients[0].dtype))


def step_if_finite(optimizer: torch.optim.Optimizer, norm: Float64[Tensor, ""], step: Callable[[], Any]) -> None:
    """Let a fused Adam, called by `step`, leave everything as it is where the norm of the gradients is not finite."""
    optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
    step()
