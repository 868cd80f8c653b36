"""Large linear systems that are known by their products alone: preconditioned conjugate gradients, bounded."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Solved:
    """x of A x = b, and how well."""

    value: Float[Tensor, "..."]
    iterations: int
    residual: Float[Tensor, ""]  # |b - A x| in the preconditioner's norm, relative to `size`


def conjugate_gradients(
    system: Callable[[Tensor], Tensor],
    right: Float[Tensor, "..."],
    *,
    iterations: int,
    tolerance: float,
    inverse: Float[Tensor, "..."] | float = 1.0,
    size: Float[Tensor, ""] | None = None,
    asked: int | None = None,
) -> Solved:
    """Solve A x = b from x = 0 (Hestenes and Stiefel 1952), for one symmetric positive semidefinite A.

    Args:
        system: x to A x, linear.
        right: b, of any shape; x has the same.
        iterations: at most.
        tolerance: of the relative residual, at which there are no more.
        inverse: of A's diagonal, or of anything near it: the preconditioner.
        size: what the residual is relative to; None: that of b.
        asked: iterations from one look at the residual to the next. None: a CPU looks every time; a GPU, which would be
            waited for, does them all.
    """
    tiny = torch.finfo(right.dtype).tiny
    x, rest = torch.zeros_like(right), right
    direction = conditioned = inverse * rest
    energy = (rest * conditioned).sum()
    whole = energy.clamp_min(0).sqrt() if size is None else size
    every = asked or (1 if right.device.type == "cpu" else iterations + 1)
    done = 0
    for done in range(1, iterations + 1):
        turned = system(direction)
        # Where nothing is left, neither is there a direction, and x stays.
        step = energy / (direction * turned).sum().clamp_min(tiny)
        x, rest = x + step * direction, rest - step * turned
        conditioned = inverse * rest
        before, energy = energy, (rest * conditioned).sum()
        if done % every == 0 and bool(energy.clamp_min(0).sqrt() <= tolerance * whole):
            break
        direction = conditioned + energy / before.clamp_min(tiny) * direction
    return Solved(x, done, energy.clamp_min(0).sqrt() / whole.clamp_min(tiny))
