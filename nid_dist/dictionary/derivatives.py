"""Analytic derivatives of a function in its coordinates, through autograd.

f is pointwise: the value at a coordinate depends on that coordinate alone. The derivative of the SUM of a channel over
all coordinates then holds each coordinate's own derivative, and one backward pass per channel is enough.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def gradient(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch C m"], *, create_graph: bool = False
) -> Float[Tensor, "*batch C d m"]:
    """First derivatives of every channel: df_c/dx_i, in units of f per unit of x.

    Args:
        f: coordinates [*batch, C, m] to values [*batch, C, d], pointwise. Coordinates shared by T signals are expanded
            to [T, C, m] first.
        create_graph: whether the result can be differentiated, in f's parameters, or in x when it requires a gradient.

    Raises:
        ValueError: when f gives more or fewer points than it got.
    """
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        values = _values(f, x)
        return torch.stack([_derivative(channel, x, create_graph) for channel in values.unbind(-1)], -2)


def laplacian(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "*batch C m"], *, create_graph: bool = False
) -> Float[Tensor, "*batch C d"]:
    """Sum of the second derivatives of every channel: sum_i d2f_c/dx_i2, in units of f per squared unit of x.

    Args:
        f: coordinates [*batch, C, m] to values [*batch, C, d], pointwise and twice differentiable.
        create_graph: whether the result can be differentiated.

    Raises:
        ValueError: when f gives more or fewer points than it got.
    """
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        channels = []
        for channel in _values(f, x).unbind(-1):
            slopes = _derivative(channel, x, create_graph=True).unbind(-1)
            second = [_derivative(slope, x, create_graph)[..., axis] for axis, slope in enumerate(slopes)]
            channels.append(torch.stack(second).sum(0))
        return torch.stack(channels, -1)


def _values(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    values = f(x)
    if values.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"f is not pointwise: coordinates {tuple(x.shape)} gave values {tuple(values.shape)}; "
            "expand shared coordinates to one set per signal"
        )
    return values


def _derivative(output: Tensor, x: Tensor, create_graph: bool) -> Tensor:
    # A function that is constant or linear in x leaves no graph to differentiate; its derivative is zero.
    if not output.requires_grad:
        return torch.zeros_like(x)
    (result,) = torch.autograd.grad(
        output.sum(), x, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return result
