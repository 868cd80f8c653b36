"""The merge as a gather in plain PyTorch: k rows of every signal side by side, in pieces that bound memory."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from nid_dist.memory import floats_at_once

_FLOATS = 2**20  # of gathered rows at a time on a CPU: they stay in its caches


def gathered_sum(
    indices: Int[Tensor, "T k"], values: Float[Tensor, "T k"], rows: Float[Tensor, "n p"]
) -> Float[Tensor, "T p"]:
    """sum_j values_j rows[indices_j], differentiable once in the values and the rows; nothing waits for the device."""
    total: Tensor = _Gather.apply(indices, values, rows)
    return total


class _Gather(torch.autograd.Function):
    """Its backward pass adds the rows' gradients up where they are, without sorting them."""

    @staticmethod
    def forward(ctx: Any, indices: Tensor, values: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(indices, values, rows)
        total = rows.new_empty(len(values), rows.shape[1])
        with torch.autocast(rows.device.type, enabled=False):
            for part in _pieces(indices, rows):
                torch.bmm(values[part, None], _gathered(indices[part], rows), out=total[part, None])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        indices, values, rows = ctx.saved_tensors
        _, of_values, of_rows = ctx.needs_input_grad
        value_slopes = torch.empty_like(values) if of_values else None
        # Of few bits many small summands would be lost.
        kind = torch.promote_types(rows.dtype, torch.float32)
        row_slopes = torch.zeros_like(rows, dtype=kind) if of_rows else None
        with torch.autocast(rows.device.type, enabled=False):
            for part in _pieces(indices, rows):
                if value_slopes is not None:
                    torch.bmm(_gathered(indices[part], rows), grad[part, :, None], out=value_slopes[part, :, None])
                if row_slopes is not None:
                    slopes = values[part, :, None].to(kind) * grad[part, None]
                    row_slopes.index_add_(0, indices[part].flatten(), slopes.flatten(0, 1))
        return None, value_slopes, None if row_slopes is None else row_slopes.to(rows.dtype)


def _gathered(indices: Int[Tensor, "S k"], rows: Float[Tensor, "n p"]) -> Float[Tensor, "S k p"]:
    return rows.index_select(0, indices.flatten()).unflatten(0, indices.shape)


def _pieces(indices: Int[Tensor, "T k"], rows: Float[Tensor, "n p"]) -> Iterator[slice]:
    """Signals whose rows are gathered together."""
    step = max(1, floats_at_once(rows.device, _FLOATS) // max(1, indices.shape[1] * rows.shape[1]))
    for first in range(0, len(indices), step):
        yield slice(first, first + step)
